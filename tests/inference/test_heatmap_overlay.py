"""The layer of a map over an X-ray."""

import numpy as np
import pytest

from cxr_isnet.inference.heatmap_overlay import AGAINST, FOR, OPACITY, blended, overlay, shared_scale


def test_the_scale_is_a_percentile_of_all_maps_together():
    generator = np.random.default_rng(0)
    maps = [generator.normal(size=(2, 8, 8)), 5 * generator.normal(size=(3, 4, 4))]

    expected = np.percentile(np.abs(np.concatenate([m.ravel() for m in maps])), 99.5)
    assert shared_scale(maps) == pytest.approx(expected)
    assert shared_scale([np.zeros((4, 4))]) == 0.0
    one_pixel = np.zeros((64, 64))
    one_pixel[0, 0] = 2.0
    assert shared_scale([one_pixel]) == 2.0


def test_colour_tells_the_sign_and_opacity_the_strength():
    layer = overlay(np.array([[2.0, -1.0, 0.0, 9.0]]), scale=2.0)[0]

    assert tuple(layer[0, :3]) == FOR
    assert tuple(layer[1, :3]) == AGAINST
    assert layer[:, 3].tolist() == [round(255 * OPACITY), round(255 * OPACITY / 2), 0, round(255 * OPACITY)]


def test_the_x_ray_is_seen_where_there_is_no_relevance_and_nothing_is_mirrored():
    image = np.linspace(0, 1, 12).reshape(3, 4)
    relevance = np.zeros((3, 4))
    relevance[0, 3] = 1.0

    pixels = blended(image, overlay(relevance, 1.0))

    np.testing.assert_array_equal(pixels[1:], np.repeat(np.rint(255 * image[1:])[..., None], 3, axis=2))
    assert pixels[0, 3, 0] > pixels[0, 3, 1] + 50
    assert (pixels[0, :3, 0] == pixels[0, :3, 1]).all()
