import numpy as np
import pytest

from cxr_isnet.imaging.mask_shape import SMALLEST_LUNG, border_share, lung_areas


def test_areas_are_those_of_the_components_that_touch_at_a_side_largest_first():
    mask = np.zeros((10, 20), np.uint8)
    mask[0:2, 0:3] = 1
    mask[2:4, 3:6] = 1  # touches the first at a corner
    mask[2, 5:9] = 1
    mask[6:9, 10:14] = 1

    assert list(lung_areas(mask)) == [12, 9, 6]


@pytest.mark.parametrize(("pixels", "counted"), [(49, []), (50, [50])])
def test_a_component_below_the_smallest_lung_is_left_out(pixels, counted):
    mask = np.zeros((100, 100), np.uint8)
    mask[3, :pixels] = 1

    assert SMALLEST_LUNG * mask.size == 50
    assert list(lung_areas(mask)) == counted


def test_an_empty_mask_has_no_lung_and_no_border():
    mask = np.zeros((8, 8), np.uint8)

    assert (len(lung_areas(mask)), border_share(mask)) == (0, 0)


def test_a_corner_counts_once_in_the_border():
    mask = np.zeros((5, 7), np.uint8)
    mask[0, 0] = mask[4, 3] = mask[2, 6] = mask[2, 3] = 1

    assert border_share(mask) == pytest.approx(3 / (2 * 7 + 2 * 3))
