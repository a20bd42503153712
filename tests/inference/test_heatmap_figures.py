from dataclasses import replace

import numpy as np
import pytest

from cxr_isnet.inference.heatmap_figures import HeatmapCase, heatmap_gallery
from cxr_isnet.inference.heatmap_overlay import blended, overlay

TWO = ("normal", "tuberculosis")


def make_case(**changes) -> HeatmapCase:
    mask = np.zeros((16, 16))
    mask[4:12, 4:12] = 1
    maps = np.stack([mask, -mask])
    maps[0, 0, 0] = 64.0
    case = HeatmapCase(
        image=np.full((16, 16), 0.5),
        mask=mask,
        maps=maps,
        map_names=TWO,
        label="tuberculosis",
        predicted="normal",
        probabilities=(0.75, 0.25),
        path="/hospital/name/image.png",
    )
    return replace(case, **changes)


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_a_row_shows_image_and_maps_with_their_shares():
    figure = heatmap_gallery([make_case()], TWO)

    assert titles(figure) == [
        "true tuberculosis, predicted normal\nnormal 0.75, tuberculosis 0.25\nimage.png; 67% in lungs",
        "relevance for normal\n50% in lungs",
        "relevance for tuberculosis\n100% in lungs",
    ]


def test_maps_stand_in_the_column_of_their_class():
    turned = make_case(maps=make_case().maps[::-1], map_names=TWO[::-1])

    assert titles(heatmap_gallery([turned], TWO))[1:] == titles(heatmap_gallery([make_case()], TWO))[1:]


def test_a_map_of_something_else_comes_after_the_classes():
    case = make_case(map_names=("eta", "tuberculosis"))

    headings = [title.split("\n")[0] for title in titles(heatmap_gallery([case], TWO))]

    assert headings[1:] == ["relevance for tuberculosis", "relevance for eta"]


def test_maps_are_scaled_around_zero_by_a_percentile_of_their_absolute_values():
    """One scale for all maps, which stands at the colour bar; the X-ray shows where there is no relevance."""
    first, second = make_case(), make_case(maps=3 * make_case().maps)
    figure = heatmap_gallery([first, second], TWO)

    scale = np.percentile(np.abs(np.concatenate([first.maps, second.maps])), 99.5)
    drawn = [figure.axes[place].images[0].get_array() for place in (1, 4)]
    for pixels, case in zip(drawn, (first, second), strict=True):
        np.testing.assert_array_equal(pixels, blended(case.image, overlay(case.maps[0], scale)))
        np.testing.assert_array_equal(pixels[15, 15], [128] * 3)
    assert (drawn[0] != drawn[1]).any()
    bar = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert bar == [f"\u2212{scale:.3g}\nagainst", "0", f"{scale:.3g}\nfor"]


def test_the_outline_of_the_lungs_is_on_every_picture_and_only_with_a_mask():
    with_mask, without = (heatmap_gallery([make_case(mask=mask)], TWO) for mask in (make_case().mask, None))

    assert [len(axes.collections) for axes in with_mask.axes[:3]] == [1, 1, 1]
    assert [len(axes.collections) for axes in without.axes[:3]] == [0, 0, 0]
    assert titles(without)[1] == "relevance for normal\nno mask"


def test_a_map_of_zeros_can_be_drawn(tmp_path):
    figure = heatmap_gallery([make_case(maps=np.zeros((2, 16, 16)))], TWO, title="nothing")

    figure.savefig(tmp_path / "gallery.png")

    assert titles(figure)[1] == "relevance for normal\nno relevance"


@pytest.mark.parametrize("cases", [[], [make_case(map_names=("normal",))]])
def test_no_case_and_a_map_without_a_name_are_bugs(cases):
    with pytest.raises(ValueError, match="at least one case"):
        heatmap_gallery(cases, TWO)
