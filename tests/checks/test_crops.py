import numpy as np
import pytest
from PIL import Image

from cxr_isnet.checks.crops import find_crops


def thumbnail(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture.astype(np.float32)).resize((128, 128), Image.Resampling.BOX))


def cut(chest: np.ndarray, left: float, top: float, width: float, height: float) -> np.ndarray:
    side = len(chest)
    rows = slice(round(top * side), round((top + height) * side))
    return chest[rows, round(left * side) : round((left + width) * side)]


@pytest.mark.parametrize(
    "box", [(0.1, 0.2, 0.7, 0.7), (0.0, 0.0, 0.9, 0.6), (0.35, 0.3, 0.55, 0.65), (0.03, 0.02, 0.95, 0.96)]
)
def test_a_crop_is_found_where_it_was_cut(chests, box):
    part = 0.1 + 0.8 * cut(chests[2], *box) ** 1.2

    crops = find_crops(np.stack([thumbnail(chest) for chest in [*chests[:6], part]]))

    assert [(crop.part, crop.whole) for crop in crops] == [(6, 2)]
    np.testing.assert_allclose(crops[0].window, box, atol=0.02)


def test_different_patients_are_no_crops_of_each_other(chests):
    assert find_crops(np.stack([thumbnail(chest) for chest in chests])) == []


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures_to_compare(chests, count):
    assert find_crops(np.stack([thumbnail(chest) for chest in chests])[:count]) == []
