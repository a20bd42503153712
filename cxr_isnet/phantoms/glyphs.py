"""Bright glyphs on a small grid and the corners they are placed in: planted marks, and lead markers of phantoms."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.config import spell_by_value


class Corner(StrEnum):
    """A corner of the displayed image."""

    TOP_LEFT = "top_left"
    TOP_RIGHT = "top_right"
    BOTTOM_LEFT = "bottom_left"
    BOTTOM_RIGHT = "bottom_right"


spell_by_value(Corner)


GLYPH_SIDE = 7
"""Rows and columns of a glyph's grid."""

_MARKS = (
    (
        "..###..",
        "..###..",
        "..###..",
        "..###..",
        "..###..",
        "..###..",
        "..###..",
    ),
    (
        ".......",
        ".......",
        "#######",
        "#######",
        "#######",
        ".......",
        ".......",
    ),
    (
        "##...##",
        ".##.##.",
        "..###..",
        "...#...",
        "..###..",
        ".##.##.",
        "##...##",
    ),
    (
        "#######",
        "#.....#",
        "#.....#",
        "#.....#",
        "#.....#",
        "#.....#",
        "#######",
    ),
    (
        "...#...",
        "..###..",
        "..#.#..",
        ".##.##.",
        ".#...#.",
        "##...##",
        "#######",
    ),
    (
        "#######",
        "#######",
        "...#...",
        "...#...",
        "...#...",
        "...#...",
        "..###..",
    ),
)

_LETTERS = {
    "L": ("##.....", "##.....", "##.....", "##.....", "##.....", "#######", "#######"),
    "R": ("#####..", "##..##.", "##..##.", "#####..", "####...", "##.##..", "##..###"),
    "P": ("######.", "##...##", "##...##", "######.", "##.....", "##.....", "##....."),
    "A": ("..###..", ".##.##.", "##...##", "##...##", "#######", "##...##", "##...##"),
}

MARK_COUNT = len(_MARKS)
"""Number of classes that can have a mark of their own."""

LETTERS = tuple(_LETTERS)
"""Letters that a marker can show."""


def mark(index: int) -> NDArray[np.float32]:
    """The mark of one class: a distinct shape on 21 to 24 of 49 cells.

    Args:
        index: class, from 0 to `MARK_COUNT` - 1.

    Returns:
        (7, 7) float32 of 0 and 1.
    """
    return _grid(_MARKS[index])


def letter(name: str) -> NDArray[np.float32]:
    """A lead marker's letter.

    Args:
        name: one of `LETTERS`.

    Returns:
        (7, 7) float32 of 0 and 1.
    """
    return _grid(_LETTERS[name])


def resize(glyph: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Resizes a glyph; each pixel is the mean of the area that it covers.

    Args:
        glyph: (7, 7) float32 in [0, 1].
        side: rows and columns of the result, in pixels.

    Returns:
        (side, side) float32 in [0, 1].
    """
    fine = np.kron(glyph, np.ones((side, side), dtype=np.float32))
    return np.asarray(fine.reshape(side, len(glyph), side, len(glyph)).mean(axis=(1, 3)), dtype=np.float32)


def _grid(rows: tuple[str, ...]) -> NDArray[np.float32]:
    return np.array([[cell == "#" for cell in row] for row in rows], dtype=np.float32)
