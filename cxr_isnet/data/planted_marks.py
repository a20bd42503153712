"""Planted marks: a synthetic shortcut, a sign of the class in the background that a classifier may learn."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from torch import Tensor

from cxr_isnet.errors import InputError
from cxr_isnet.phantoms import Corner, glyphs


class MarkMode(StrEnum):
    """Which mark an image gets.

    NONE: none.
    BIASED: that of its own class.
    SWAPPED: that of the next class.
    """

    NONE = "none"
    BIASED = "biased"
    SWAPPED = "swapped"


@dataclass(frozen=True)
class MarkConfig:
    """Appearance of a planted mark.

    Attributes:
        size: side of the mark as a share of the image's side.
        intensity: grey value of the mark, in [0, 1].
        corner: preferred corner; another one is used where the lungs reach into it.
        margin: distance from the image's edges as a share of its side.

    Raises:
        InputError: a value out of range.
    """

    size: float = 0.1
    intensity: float = 1.0
    corner: Corner = Corner.TOP_LEFT
    margin: float = 0.04

    def __post_init__(self) -> None:
        if not 0 < self.size <= 0.5:
            raise InputError(f"mark size is {self.size}; give a share of the image's side, above 0 to 0.5")
        if not 0 <= self.intensity <= 1:
            raise InputError(f"mark intensity is {self.intensity}; give a grey value from 0 to 1")
        if not 0 <= self.margin < 0.5:
            raise InputError(f"mark margin is {self.margin}; give a share of the image's side below 0.5")


SHRINKING = (1.0, 0.8, 0.6, 0.45)
"""Sizes that are tried in turn, in units of the preferred size, until the mark lies outside the lungs."""

SMALLEST_SIDE = 5
"""Pixels: a smaller mark would not show its shape."""


class PlantMarkd(MapTransform):
    """Stamp the mark of a class into the background, fully outside the lungs.

    `biased` stamps the mark of the image's own class, `swapped` that of the next class (a derangement: no
    class keeps its mark). Place and size depend on the lungs only, never on the class. Without a mask the
    mark goes to the preferred corner.
    """

    def __init__(
        self,
        config: MarkConfig,
        mode: MarkMode,
        class_count: int,
        keys: KeysCollection = ("image",),
    ) -> None:
        """Set up.

        Args:
            config: appearance of the mark.
            mode: which mark an image gets.
            class_count: number of classes, at most `glyphs.MARK_COUNT`.
            keys: the images to stamp; `mask`, `has_mask` and `label` are read from the same item.

        Raises:
            InputError: more classes than marks, or one class to swap.
        """
        super().__init__(keys)
        if class_count > glyphs.MARK_COUNT or (mode is MarkMode.SWAPPED and class_count < 2):
            raise InputError(
                f"planted marks ({mode.value}) were asked for {class_count} classes; they exist for "
                f"2 to {glyphs.MARK_COUNT}"
            )
        self.config = config
        self.mode = mode
        self.class_count = class_count

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one item.

        Args:
            data: `image` (1, H, W) float32 in [0, 1], `mask` (1, H, W) of 0 and 1, `has_mask`, `label`.

        Returns:
            A new item.

        Raises:
            InputError: the lungs leave no room in any corner.
        """
        item = dict(data)
        if self.mode is MarkMode.NONE:
            return item
        kind = int(item["label"])
        if self.mode is MarkMode.SWAPPED:
            kind = (kind + 1) % self.class_count
        mask = item["mask"][0].numpy() > 0 if bool(item["has_mask"]) else None
        for key in self.key_iterator(item):
            image = item[key]
            position = find_position(image.shape[-2:], mask, self.config)
            if position is None:
                raise InputError(
                    f"{item.get('path', 'image')}: the lungs leave no room for a mark in any corner. "
                    "Make the mark smaller, or drop the image"
                )
            item[key] = stamp(image, glyphs.mark(kind), position, self.config.intensity)
        return item


def find_position(
    shape: tuple[int, int] | torch.Size, mask: NDArray[np.bool_] | None, config: MarkConfig
) -> tuple[slice, slice] | None:
    """Position of a mark: the first square, by size and then by corner, that keeps a pixel's distance from the lungs.

    Args:
        shape: rows and columns of the image.
        mask: (rows, columns) True in the lungs; None where they are not known.
        config: preferred size and corner.

    Returns:
        Rows and columns of the mark; None when the lungs are everywhere.
    """
    from scipy import ndimage  # not at the top: a model in use does without scipy

    near = np.zeros(shape, dtype=bool) if mask is None else ndimage.binary_dilation(mask, np.ones((3, 3)))
    for position in _candidates(shape[0], shape[1], config):
        if not near[position].any():
            return position
    return None


def _candidates(rows: int, columns: int, config: MarkConfig) -> Iterator[tuple[slice, slice]]:
    corners = [config.corner, *(corner for corner in Corner if corner is not config.corner)]
    short = min(rows, columns)
    margin = round(config.margin * short)
    for factor in SHRINKING:
        side = max(round(factor * config.size * short), SMALLEST_SIDE)
        for corner in corners:
            top = margin if corner.value.startswith("top") else rows - margin - side
            left = margin if corner.value.endswith("left") else columns - margin - side
            yield slice(top, top + side), slice(left, left + side)


def stamp(image: Tensor, glyph: NDArray[np.float32], position: tuple[slice, slice], intensity: float) -> Tensor:
    """Copy of an image with a glyph on it.

    Args:
        image: (1, H, W) float32 in [0, 1].
        glyph: (7, 7) in [0, 1], as `glyphs.mark` or `glyphs.letter` gives it.
        position: rows and columns of a square, as `find_position` gives them.
        intensity: grey value of the glyph, in [0, 1].
    """
    side = position[0].stop - position[0].start
    cover = torch.from_numpy(glyphs.resize(glyph, side).copy())
    marked = image.clone()
    under = marked[:, position[0], position[1]]
    marked[:, position[0], position[1]] = under * (1 - cover) + intensity * cover
    return marked
