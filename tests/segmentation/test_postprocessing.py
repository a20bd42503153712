import numpy as np
import pytest

from cxr_isnet.segmentation.postprocessing import clean, to_image_size

from .conftest import two_lungs


def flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Components by flood fill, largest first: slow and without a library."""
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    found = []
    while left:
        queue, component = [left.pop()], set()
        while queue:
            row, column = queue.pop()
            component.add((row, column))
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if near in left:
                    left.remove(near)
                    queue.append(near)
        found.append(component)
    return sorted(found, key=len, reverse=True)


def outside(mask: np.ndarray) -> set[tuple[int, int]]:
    """Pixels that are reached from beyond the picture without crossing the mask."""
    around = np.pad(mask == 0, 1, constant_values=True)
    sea = next(component for component in flooded(around) if (0, 0) in component)
    return {(row - 1, column - 1) for row, column in sea}


@pytest.mark.parametrize("seed", range(4))
def test_it_keeps_the_two_largest_components_and_fills_their_holes(seed):
    raw = np.random.default_rng(seed).random((14, 17)) > 0.45
    components = flooded(raw)
    kept = np.zeros_like(raw)
    for row, column in components[0] | components[1]:
        kept[row, column] = True
    sea = outside(kept)
    expected = np.array([[(row, column) not in sea for column in range(17)] for row in range(14)])
    if len(components[1]) == len(components[2]):
        pytest.fail("the seed gives two candidates for the second place: choose another")

    cleaned = clean(raw)

    assert np.array_equal(cleaned.mask, expected)
    assert cleaned.fragments == pytest.approx(1 - kept.sum() / raw.sum())


def test_two_whole_lungs_come_out_as_they_are():
    cleaned = clean(two_lungs() == 1)

    assert np.array_equal(cleaned.mask, two_lungs())
    assert cleaned.fragments == 0


def test_nothing_comes_out_of_nothing():
    cleaned = clean(np.zeros((8, 8), bool))

    assert cleaned.mask.sum() == 0
    assert cleaned.fragments == 0


@pytest.mark.parametrize("shape", [(64, 64), (200, 100), (33, 47)])
def test_a_map_is_brought_to_the_image_s_size(shape):
    probability = np.zeros((64, 64), np.float32)
    probability[:, :32] = 1

    lungs = to_image_size(probability, shape)

    assert lungs.shape == shape
    assert lungs[:, : shape[1] // 2 - 1].all()
    assert not lungs[:, shape[1] // 2 + 1 :].any()
