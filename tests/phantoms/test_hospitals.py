import numpy as np
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.phantoms import Corner, PhantomHospital
from cxr_isnet.phantoms.anatomy import draw_chest
from cxr_isnet.phantoms.hospitals import expose

CHEST = draw_chest(96, False, np.random.default_rng(0))


def exposed(**look: object) -> np.ndarray:
    return expose(CHEST, PhantomHospital("Alder", **look), np.random.default_rng(1)).astype(float)


def test_twelve_bits():
    picture = exposed()

    assert 0 <= picture.min() < picture.max() <= 4095


def test_gamma_darkens():
    assert exposed(gamma=1.6).mean() < exposed(gamma=1.0).mean()


def test_noise_is_seen():
    assert exposed(noise=0.1)[-10:].std(axis=0).mean() > 2 * exposed(noise=0.0)[-10:].std(axis=0).mean()


@pytest.mark.parametrize("corner", list(Corner))
def test_marker_lies_in_its_corner(corner):
    changed = exposed(marker="L", marker_corner=corner, noise=0.0) - exposed(marker="", noise=0.0)

    rows, columns = np.nonzero(changed > 200)
    assert rows.size
    assert (rows.mean() < 48) == corner.startswith("top")
    assert (columns.mean() < 48) == corner.endswith("left")


def test_collimation_darkens_a_border():
    picture = exposed(collimation=0.08)

    assert picture[:3].mean() < 300
    assert picture[-3:].mean() < 300
    assert picture[30:60, 40:60].mean() > 800


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"marker": "Q"}, {"gamma": 0.0}, {"noise": -1.0}, {"collimation": 0.3}]
)
def test_wrong_settings_are_errors(wrong):
    with pytest.raises(InputError, match="phantom hospital"):
        PhantomHospital(**({"name": "Alder"} | wrong))
