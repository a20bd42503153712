from dataclasses import replace

import numpy as np
import pytest

from cxr_isnet.inference.heatmap_figures import HeatmapCase, comparison_figure


def make_case(path: str = "a.png", **changes) -> HeatmapCase:
    mask = np.zeros((16, 16))
    mask[4:12, 4:12] = 1
    maps = np.stack([mask, -mask])
    maps[0, 0, 0] = 128.0
    case = HeatmapCase(
        image=np.full((16, 16), 0.5),
        mask=mask,
        maps=maps,
        map_names=("normal", "tuberculosis"),
        label="tuberculosis",
        predicted="normal",
        probabilities=(0.75, 0.25),
        path=path,
    )
    return replace(case, **changes)


def rows_of(figure, columns: int) -> list[list]:
    return [figure.axes[start : start + columns] for start in range(0, len(figure.axes), columns)]


def test_a_row_of_images_is_followed_by_a_row_per_method():
    cases = [make_case("a.png", label="normal"), make_case("b.png")]

    figure = comparison_figure({"densenet121": cases, "isnet": cases})

    images, *methods = rows_of(figure, 2)
    assert [axes.get_title() for axes in images] == ["normal", "tuberculosis"]
    assert [row[0].get_ylabel() for row in methods] == ["densenet121", "isnet"]


def test_beneath_a_map_stands_what_the_method_says_and_its_share_in_the_lungs():
    figure = comparison_figure({"isnet": [make_case()]})

    assert figure.axes[1].get_xlabel() == "predicted normal\n50% in lungs"  # 64 + 64 inside, 128 outside


def test_without_a_mask_no_share_is_reported_and_no_lung_drawn():
    figure = comparison_figure({"isnet": [make_case(mask=None)]})

    assert figure.axes[1].get_xlabel() == "predicted normal"
    assert not any(axes.collections for axes in figure.axes)


def colour_of(figure, place: int) -> np.ndarray:
    """How much a pixel is coloured: the difference of its red to its green."""
    pixels = figure.axes[place].images[0].get_array().astype(int)
    return pixels[..., 0] - pixels[..., 1]


def test_the_strength_is_that_of_all_classes_whatever_the_sign_and_the_unit():
    case = make_case()
    small = make_case(maps=case.maps * -1e-6)

    figure = comparison_figure({"isnet": [case], "other": [small]})

    assert colour_of(figure, 1)[8, 8] > 0  # +1 and -1 do not cancel
    assert colour_of(figure, 1)[15, 15] == 0
    np.testing.assert_array_equal(colour_of(figure, 1), colour_of(figure, 2))


def test_one_scale_serves_all_methods_and_is_told():
    spread = make_case(maps=np.ones((2, 16, 16)))

    figure = comparison_figure({"focused": [make_case()], "spread": [spread]})

    assert colour_of(figure, 1).max() > 1.9 * colour_of(figure, 2).max()
    assert figure.get_suptitle().startswith("one scale for all: full colour is ")


def test_a_map_of_zeros_can_be_shown():
    figure = comparison_figure({"isnet": [make_case(maps=np.zeros((2, 16, 16)))]})

    assert not colour_of(figure, 1).any()


@pytest.mark.parametrize(
    "rows",
    [{}, {"isnet": []}, {"a": [make_case("a.png")], "b": [make_case("b.png")]}, {"a": [make_case()], "b": []}],
)
def test_methods_that_show_different_images_cannot_be_compared(rows):
    with pytest.raises(ValueError, match="a comparison needs the same images"):
        comparison_figure(rows)
