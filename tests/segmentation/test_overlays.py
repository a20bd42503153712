import numpy as np
import pytest

from cxr_isnet.segmentation.overlays import (
    CAPTION,
    GIVEN_COLOUR,
    PREDICTED_COLOUR,
    SIDE,
    TILE,
    OverlayTile,
    contact_sheet,
    overlay,
)

from .conftest import two_lungs


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == colour).all(axis=-1)


@pytest.mark.parametrize("shape", [(96, 80), (500, 700)])
def test_the_outline_runs_along_the_inside_of_the_lungs_and_nowhere_else(shape):
    mask = two_lungs(*shape)

    picture = np.asarray(overlay(np.zeros(shape, np.float32), mask))

    assert max(picture.shape[:2]) == SIDE
    outline = where(picture, PREDICTED_COLOUR)
    rows, columns = np.nonzero(outline)
    assert rows.min() == pytest.approx(0.2 * picture.shape[0], abs=4)
    assert columns.max() == pytest.approx(0.85 * picture.shape[1], abs=4)
    middle = outline[picture.shape[0] // 2]
    assert middle.sum() == 8  # two lungs, two sides, two pixels wide
    assert (picture[~outline] == 0).all()


def test_given_lungs_have_another_colour_and_lie_below():
    mask = two_lungs()
    other = two_lungs(top=0.5)

    picture = np.asarray(overlay(np.full(mask.shape, 0.5, np.float32), mask, other))

    assert where(picture, PREDICTED_COLOUR).any()
    assert where(picture, GIVEN_COLOUR).any()
    assert np.array_equal(
        where(picture, PREDICTED_COLOUR), where(np.asarray(overlay(np.zeros(mask.shape), mask)), PREDICTED_COLOUR)
    )


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, 1), (6, 1), (7, 2)])
def test_a_sheet_has_a_tile_per_case_six_in_a_row(count, rows):
    case = OverlayTile(np.zeros((96, 80), np.float32), two_lungs(), None, "Dice 0.9")

    picture = np.asarray(contact_sheet([case] * count, "worst"))

    assert picture.shape == (CAPTION + rows * (CAPTION + TILE), 6 * TILE, 3)
    tiles = [
        picture[top:, left : left + TILE]
        for top in range(CAPTION, len(picture), TILE + CAPTION)
        for left in range(0, 6 * TILE, TILE)
    ]
    tiles = [tile[: TILE + CAPTION] for tile in tiles]
    assert sum(bool((tile[CAPTION + 5 : CAPTION + 20, 5:20] == 0).all()) for tile in tiles) == count
