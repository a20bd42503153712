"""Planted marks: a synthetic shortcut, a sign of the class that a classifier may learn instead of the disease."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cxr_isnet.config import spell_by_value
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


class MarkKind(StrEnum):
    """What a planted mark looks like; each changes the background only, but for `INSIDE`.

    SHAPE: A bright shape of the class in a corner, as in the ISNet study.
    MOVING: The same, at a place that varies from image to image.
    TEXT: The name of a hospital in a corner, one for each class.
    BORDER: A black collimation border at one edge of the image, another for each class.
    GRADIENT: The background gets brighter in one direction, another for each class.
    BLUR: The background is blurred, more for each class; not at all for the first.
    INSIDE: The shape lies inside the lungs. A negative control: no method that looks at the lungs can resist it.
    """

    SHAPE = "shape"
    MOVING = "moving"
    TEXT = "text"
    BORDER = "border"
    GRADIENT = "gradient"
    BLUR = "blur"
    INSIDE = "inside"


spell_by_value(MarkKind)


@dataclass(frozen=True)
class MarkConfig:
    """Appearance of a planted mark.

    Attributes:
        size: side of the mark as a share of the image's side: of the square of a shape, of a text's height times
            two, of a border's depth; of a blur the largest standard deviation times four; without effect on a gradient.
        intensity: in [0, 1]: grey value of a shape or text; how much brighter a gradient gets at its end; without
            effect on a border and a blur.
        corner: preferred corner of a shape or text; another one is used where the lungs reach into it.
        margin: distance from the image's edges as a share of its side.
        kind: what the mark looks like.

    Raises:
        InputError: a value out of range.
    """

    size: float = 0.1
    intensity: float = 1.0
    corner: Corner = Corner.TOP_LEFT
    margin: float = 0.04
    kind: MarkKind = MarkKind.SHAPE

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

HOSPITAL_NAMES = ("NORTH", "SOUTH", "EAST", "WEST", "CENTRAL", "LAKE")
"""Text marks, one for each class; of no real hospital."""

MOVING_PLACES = 200
"""Places that are tried at random for a mark that moves."""


class PlantMarkd(MapTransform):
    """Plant the mark of a class into an image: into the background, fully outside the lungs, unless it is `INSIDE`.

    `biased` plants the mark of the image's own class, `swapped` that of the next class (a derangement: no
    class keeps its mark). Place and size depend on the lungs and, where they vary, on the file's name, never on the
    class. Without a mask a shape goes to the preferred corner.
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
            keys: the images to mark; `mask`, `has_mask` and `label` are read from the same item.

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
            data: `image` (1, H, W) float32 in [0, 1], `mask` (1, H, W) of 0 and 1, `has_mask`, `label`, `path`.

        Returns:
            A new item.

        Raises:
            InputError: the lungs leave no room for the mark, or there is no mask where the mark needs one.
        """
        item = dict(data)
        if self.mode is MarkMode.NONE:
            return item
        kind = int(item["label"])
        if self.mode is MarkMode.SWAPPED:
            kind = (kind + 1) % self.class_count
        mask = item["mask"][0].numpy() > 0 if bool(item["has_mask"]) else None
        for key in self.key_iterator(item):
            item[key] = self._marked(item[key], kind, mask, str(item.get("path", "image")))
        return item

    def _marked(self, image: Tensor, kind: int, mask: NDArray[np.bool_] | None, path: str) -> Tensor:
        config = self.config
        change = _BACKGROUND_CHANGES.get(config.kind)
        if change is not None:
            return _outside(image, change(image[0].numpy(), kind, self.class_count, config), mask)
        if config.kind is MarkKind.TEXT:
            return _with_text(image, HOSPITAL_NAMES[kind], mask, config, path)
        if config.kind is MarkKind.SHAPE:
            position = find_position(image.shape[-2:], mask, config)
        else:
            inside = config.kind is MarkKind.INSIDE
            if inside and mask is None:
                raise InputError(
                    f"{path}: a mark inside the lungs needs a lung mask. Set data.masked_only, or leave the image out"
                )
            position = _random_position(image.shape[-2:], mask, config, path, inside=inside)
        if position is None:
            raise InputError(
                f"{path}: the lungs leave no room for a mark of kind '{config.kind.value}'. "
                "Make the mark smaller, or drop the image"
            )
        return stamp(image, glyphs.mark(kind), position, config.intensity)


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
    near = _in_or_beside(mask, shape)
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


def _in_or_beside(mask: NDArray[np.bool_] | None, shape: Sequence[int]) -> NDArray[np.bool_]:
    """The lungs and the pixels around them; nothing where the lungs are not known."""
    from scipy import ndimage  # not at the top: a model in use does without scipy

    if mask is None:
        return np.zeros(shape, dtype=bool)
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3))), dtype=bool)


def _random_position(
    shape: tuple[int, int] | torch.Size,
    mask: NDArray[np.bool_] | None,
    config: MarkConfig,
    path: str,
    *,
    inside: bool,
) -> tuple[slice, slice] | None:
    """A place drawn anew for each file name, whichever folder it lies in: outside the lungs, or wholly inside them."""
    generator = np.random.default_rng(crc32(Path(path).name.encode()))
    rows, columns = shape
    near = _in_or_beside(mask, shape)
    forbidden = ~mask if inside and mask is not None else near
    for factor in SHRINKING:
        side = max(round(factor * config.size * min(rows, columns)), SMALLEST_SIDE)
        for _ in range(MOVING_PLACES):
            top, left = generator.integers(rows - side + 1), generator.integers(columns - side + 1)
            position = slice(int(top), int(top) + side), slice(int(left), int(left) + side)
            if not forbidden[position].any():
                return position
    return None


def _with_text(image: Tensor, name: str, mask: NDArray[np.bool_] | None, config: MarkConfig, path: str) -> Tensor:
    """Copy of an image with a name in the first corner where it lies outside the lungs, smaller if need be."""
    shape = image.shape[-2:]
    near = _in_or_beside(mask, shape)
    margin = round(config.margin * min(shape))
    corners = [config.corner, *(corner for corner in Corner if corner is not config.corner)]
    for factor in SHRINKING:
        drawn = letters(name, max(SMALLEST_SIDE, round(factor * config.size / 2 * min(shape))))
        height, width = drawn.shape
        for corner in corners:
            top = margin if corner.value.startswith("top") else shape[0] - margin - height
            left = margin if corner.value.endswith("left") else shape[1] - margin - width
            cover = np.zeros(shape, dtype=np.float32)
            if left < 0 or left + width > shape[1]:
                continue
            cover[top : top + height, left : left + width] = drawn
            if not near[top : top + height, left : left + width].any():
                return image * torch.from_numpy(1 - cover) + config.intensity * torch.from_numpy(cover)
    raise InputError(
        f"{path}: the lungs leave no room for a mark of kind 'text'. Make the mark smaller, or drop the image"
    )


def letters(text: str, height: int) -> NDArray[np.float32]:
    """A text in Pillow's own font, (rows, columns) in [0, 1], cropped to its letters of about `height` pixels."""
    font = ImageFont.load_default(height * 1.4)
    left, top, right, bottom = font.getbbox(text)
    drawn = Image.new("L", (int(np.ceil(right - left)), int(np.ceil(bottom - top))))
    ImageDraw.Draw(drawn).text((-left, -top), text, fill=255, font=font)
    return np.asarray(drawn, dtype=np.float32) / np.float32(255)


def _border(image: NDArray[np.float32], kind: int, class_count: int, config: MarkConfig) -> NDArray[np.float32]:
    """Black at one edge: left, right, top, bottom, then left and right together, top and bottom together."""
    rows, columns = image.shape
    depth = max(1, round(config.size * min(rows, columns)))
    edges = (
        (np.s_[:, :depth],), (np.s_[:, columns - depth :],), (np.s_[:depth],), (np.s_[rows - depth :],),
        (np.s_[:, :depth], np.s_[:, columns - depth :]), (np.s_[:depth], np.s_[rows - depth :]),
    )  # fmt: skip
    black = image.copy()
    for edge in edges[kind]:
        black[edge] = 0
    return black


def _gradient(image: NDArray[np.float32], kind: int, class_count: int, config: MarkConfig) -> NDArray[np.float32]:
    """Brighter along a direction that turns with the class, from 0 at one end to `intensity` at the other."""
    rows, columns = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in image.shape), indexing="ij")
    angle = 2 * np.pi * kind / class_count
    along = np.cos(angle) * columns + np.sin(angle) * rows
    ramp = (along - along.min()) / np.ptp(along)
    return np.asarray(np.clip(image + config.intensity * ramp, 0, 1), dtype=np.float32)


def _blur(image: NDArray[np.float32], kind: int, class_count: int, config: MarkConfig) -> NDArray[np.float32]:
    """Gaussian blur, of standard deviation 0 for the first class up to a quarter of `size` for the last."""
    from scipy import ndimage  # as above

    largest = config.size / 4 * min(image.shape)
    return np.asarray(ndimage.gaussian_filter(image, largest * kind / max(1, class_count - 1)), dtype=np.float32)


_BACKGROUND_CHANGES: Mapping[MarkKind, Callable[[NDArray[np.float32], int, int, MarkConfig], NDArray[np.float32]]] = {
    MarkKind.BORDER: _border,
    MarkKind.GRADIENT: _gradient,
    MarkKind.BLUR: _blur,
}
"""Marks that change the whole background: (image (H, W), class, number of classes, config) -> image (H, W)."""


def _outside(image: Tensor, changed: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> Tensor:
    """The changed image (H, W) outside the lungs and a pixel around them, the image (1, H, W) as it was inside."""
    after = torch.from_numpy(changed)[None]
    if mask is None:
        return after
    near = torch.from_numpy(_in_or_beside(mask, mask.shape))[None]
    return torch.where(near, image, after)
