from dataclasses import replace

import numpy as np
import pytest

from cxr_isnet.inference.heatmap_figures import HeatmapCase, heatmap_gallery

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
        probability=0.75,
        path="/hospital/name/image.png",
    )
    return replace(case, **changes)


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_a_row_shows_image_and_maps_with_their_shares():
    figure = heatmap_gallery([make_case()], TWO)

    assert titles(figure) == [
        "true tuberculosis\npredicted normal (0.75)\nimage.png; 67% in lungs",
        "relevance for normal\n50% in lungs",
        "relevance for tuberculosis\n100% in lungs",
    ]


def test_maps_stand_in_the_column_of_their_class():
    turned = make_case(maps=make_case().maps[::-1], map_names=TWO[::-1])

    assert titles(heatmap_gallery([turned], TWO)) == titles(heatmap_gallery([make_case()], TWO))


def test_a_map_of_something_else_comes_after_the_classes():
    case = make_case(map_names=("eta", "tuberculosis"))

    headings = [title.split("\n")[0] for title in titles(heatmap_gallery([case], TWO))]

    assert headings[1:] == ["relevance for tuberculosis", "relevance for eta"]


def test_maps_are_scaled_around_zero_by_a_percentile_of_their_absolute_values():
    case = make_case()
    figure = heatmap_gallery([case], TWO)

    drawn = figure.axes[1].images[0]

    scale = np.percentile(np.abs(case.maps[0]), 99.5)
    assert drawn.get_clim() == (-1, 1)
    np.testing.assert_allclose(drawn.get_array(), case.maps[0] / scale)


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
