"""Overlays: X-rays with the outlines of their lung masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr_isnet.evaluation import outlined

SIDE = 384
PREDICTED_COLOUR = (255, 212, 0)
GIVEN_COLOUR = (51, 160, 255)
COLUMNS = 6
TILE = 260
CAPTION = 20

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class OverlayTile:
    """One tile of a contact sheet.

    Attributes:
        image: (rows, columns) in [0, 1].
        predicted: (rows, columns) of 0 and 1; outlined in yellow.
        given: The same, the reference; outlined in blue. None without.
        title: Above the tile.
    """

    image: NDArray[np.float32]
    predicted: Mask
    given: Mask | None
    title: str


def overlay(image: NDArray[np.float32], predicted: Mask, given: Mask | None = None) -> Image.Image:
    """The X-ray, its longer side 384 pixels, with the predicted lungs outlined in yellow, over the given ones in blue.

    Args:
        image: (rows, columns) in [0, 1].
        predicted: (rows, columns) of 0 and 1.
        given: The same; None without.
    """
    scale = SIDE / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    grey = Image.fromarray(np.rint(image * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    reference = grey if given is None else outlined(grey, given, GIVEN_COLOUR, width=2)
    return outlined(reference, predicted, PREDICTED_COLOUR, width=2)


def contact_sheet(tiles: Sequence[OverlayTile], title: str) -> Image.Image:
    """The tiles, six in a row, each with its title above."""
    rows = math.ceil(len(tiles) / COLUMNS)
    paper = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION) + CAPTION), "white")
    draw = ImageDraw.Draw(paper)
    draw.text((4, 4), title, fill="black")
    for number, tile in enumerate(tiles):
        left, top = number % COLUMNS * TILE, number // COLUMNS * (TILE + CAPTION) + CAPTION
        picture = overlay(tile.image, tile.predicted, tile.given)
        picture.thumbnail((TILE - 4, TILE - 4))
        draw.text((left + 4, top + 4), tile.title, fill="black")
        paper.paste(picture, (left, top + CAPTION))
    return paper
