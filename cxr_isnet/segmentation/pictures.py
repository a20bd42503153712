"""X-rays with outlines of lungs drawn on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIDE = 384
FOUND_COLOUR = (255, 212, 0)
GIVEN_COLOUR = (51, 160, 255)
COLUMNS = 6
TILE_INCHES = 2.3

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class OverlayCase:
    """One tile of a sheet.

    Attributes:
        image: (rows, columns) in [0, 1].
        found: (rows, columns) of 0 and 1; yellow.
        given: The same, drawn by hand; blue. None without.
        title: Above the tile.
    """

    image: NDArray[np.float32]
    found: Mask
    given: Mask | None
    title: str


def overlay(image: NDArray[np.float32], found: Mask, given: Mask | None = None) -> Image.Image:
    """The X-ray, its longer side 384 pixels, with the outline of the found lungs, in yellow, over the given, in blue.

    Args:
        image: (rows, columns) in [0, 1].
        found: (rows, columns) of 0 and 1.
        given: The same; None for none.
    """
    scale = SIDE / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    grey = Image.fromarray(np.rint(image * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    pixels = np.stack([np.asarray(grey)] * 3, axis=-1)
    for mask, colour in ((given, GIVEN_COLOUR), (found, FOUND_COLOUR)):
        if mask is not None:
            large = np.asarray(Image.fromarray(mask * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)) > 127
            pixels[large & ~ndimage.binary_erosion(large, iterations=2)] = colour
    return Image.fromarray(pixels)


def sheet(cases: Sequence[OverlayCase], title: str) -> Figure:
    """The cases as tiles, six in a row."""
    rows = max(1, math.ceil(len(cases) / COLUMNS))
    figure = Figure(figsize=(COLUMNS * TILE_INCHES, rows * (TILE_INCHES + 0.3) + 0.4), layout="constrained", dpi=100)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, case in zip(grid.flat, cases, strict=False):
        axes.imshow(np.asarray(overlay(case.image, case.found, case.given)))
        axes.set_title(case.title, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
