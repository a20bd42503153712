"""X-rays with outlines of lungs drawn on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

SIDE = 384
FOUND_COLOUR = (255, 212, 0)
GIVEN_COLOUR = (51, 160, 255)
COLUMNS = 6
TILE = 260
CAPTION = 20

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


def sheet(cases: Sequence[OverlayCase], title: str) -> Image.Image:
    """The cases as tiles, six in a row, each with its title above."""
    rows = math.ceil(len(cases) / COLUMNS)
    paper = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION) + CAPTION), "white")
    draw = ImageDraw.Draw(paper)
    draw.text((4, 4), title, fill="black")
    for number, case in enumerate(cases):
        left, top = number % COLUMNS * TILE, number // COLUMNS * (TILE + CAPTION) + CAPTION
        tile = overlay(case.image, case.found, case.given)
        tile.thumbnail((TILE - 4, TILE - 4))
        draw.text((left + 4, top + 4), case.title, fill="black")
        paper.paste(tile, (left, top + CAPTION))
    return paper
