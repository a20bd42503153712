import numpy as np
import pytest
from scipy import ndimage

from cxr_isnet.phantoms.anatomy import draw_chest


def chest(seed: int, ill: bool = False, size: int = 128):
    return draw_chest(size, ill, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_two_lungs_of_a_plausible_size_inside_the_picture(seed):
    lungs = chest(seed).lungs

    _, count = ndimage.label(lungs)
    assert count == 2
    assert 0.15 < lungs.mean() < 0.40
    assert not lungs[[0, -1]].any()
    assert not lungs[:, [0, -1]].any()


@pytest.mark.parametrize("seed", range(8))
def test_lungs_are_dark_and_the_middle_is_bright(seed):
    drawn = chest(seed)
    middle = drawn.density[60:110, 60:68]

    assert drawn.density[drawn.lungs].mean() < 0.6 * middle.mean()
    assert not drawn.lungs[60:110, 63:65].any()


def test_heart_takes_more_of_the_patients_left_lung():
    halves = [(lungs[:, :64].sum(), lungs[:, 64:].sum()) for lungs in (chest(seed).lungs for seed in range(12))]

    right, left = np.mean(halves, axis=0)
    assert right > left


def test_disease_brightens_the_lungs_only_and_more_of_the_upper_ones():
    differences = []
    for seed in range(12):
        well, sick = chest(seed), chest(seed, ill=True)
        np.testing.assert_array_equal(well.lungs, sick.lungs)
        differences.append((sick.density - well.density) * ndimage.binary_erosion(well.lungs))
    brightening = np.mean(differences, axis=0)

    assert brightening.sum() > 0
    assert brightening[:64].sum() > brightening[64:].sum()


def test_patients_differ_and_seeds_repeat():
    assert np.array_equal(chest(1).density, chest(1).density)
    assert not np.array_equal(chest(1).lungs, chest(2).lungs)
