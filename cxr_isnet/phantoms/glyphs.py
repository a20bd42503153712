"""Bright signs on a small grid, and the corners they lie in: planted marks, and the lead markers of phantom X-rays."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Corner(StrEnum):
    """A corner of the picture as it is shown."""

    TOP_LEFT = "top_left"
    TOP_RIGHT = "top_right"
    BOTTOM_LEFT = "bottom_left"
    BOTTOM_RIGHT = "bottom_right"


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
"""How many classes can have a mark of their own."""

LETTERS = tuple(_LETTERS)
"""Letters that a marker can show."""


def mark(index: int) -> NDArray[np.float32]:
    """The mark of one class: shapes that differ, on 21 to 24 of 49 cells.

    Args:
        index: class, from 0 to `MARK_COUNT` - 1.

    Returns:
        (7, 7) of 0 and 1.
    """
    return _grid(_MARKS[index])


def letter(name: str) -> NDArray[np.float32]:
    """A lead marker's letter.

    Args:
        name: one of `LETTERS`.

    Returns:
        (7, 7) of 0 and 1.
    """
    return _grid(_LETTERS[name])


def enlarge(glyph: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Draw a glyph larger or smaller, each pixel the mean of what it covers.

    Args:
        glyph: (7, 7) in [0, 1].
        side: wanted rows and columns, in pixels.

    Returns:
        (side, side) in [0, 1].
    """
    fine = np.kron(glyph, np.ones((side, side), dtype=np.float32))
    return np.asarray(fine.reshape(side, len(glyph), side, len(glyph)).mean(axis=(1, 3)), dtype=np.float32)


def _grid(rows: tuple[str, ...]) -> NDArray[np.float32]:
    return np.array([[cell == "#" for cell in row] for row in rows], dtype=np.float32)
