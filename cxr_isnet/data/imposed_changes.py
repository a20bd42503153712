"""Changes that a shortcut may consist of, imposed on images: marks, borders, blur, noise, compression, crops, greys.

A change turns images (N, 1, H, W) float32 in [0, 1] and lung masks (N, 1, H, W) of 0 and 1 into changed images of the
same form, with the grey values as read: a model equalizes them afterwards. Changes of the background leave the lungs
and a rim around them as they are.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cxr_isnet.data.alterations import dilate
from cxr_isnet.data.planted_marks import letters
from cxr_isnet.phantoms import Corner, glyphs

WORDS = "ROOM 4"
"""Of a text in a corner; what it says matters less than that it is there."""
MARGIN = 0.03
"""Distance of a mark from the image's edges, as a share of its side."""
EDGES = ("left", "right", "top", "bottom")


@dataclass(frozen=True)
class ImposedChange:
    """One change in one place and one dose.

    Attributes:
        kind: Of the change, as "blur".
        variant: Its place, direction or shape, and its dose, in words.
        apply: Images and masks to changed images.
    """

    kind: str
    variant: str
    apply: Callable[[Tensor, Tensor], Tensor]

    @property
    def name(self) -> str:
        """Kind and variant."""
        return f"{self.kind}, {self.variant}"


def _in_background(images: Tensor, changed: Tensor, masks: Tensor) -> Tensor:
    return torch.where(dilate(masks) > 0, images, changed)


def corner_mark(images: Tensor, masks: Tensor, cover: Tensor, corner: Corner) -> Tensor:
    """A bright mark in a corner; what lies in the lungs is not drawn.

    Args:
        images: (N, 1, H, W).
        masks: Lungs.
        cover: (h, w) in [0, 1], how much of each pixel the mark covers; cut to the image.
        corner: Where.
    """
    rows, columns = images.shape[-2:]
    margin = max(1, round(MARGIN * min(rows, columns)))
    cover = cover[: rows - margin, : columns - margin]
    top = margin if corner.value.startswith("top") else rows - margin - len(cover)
    left = margin if corner.value.endswith("left") else columns - margin - cover.shape[1]
    whole = F.pad(cover, (left, columns - left - cover.shape[1], top, rows - top - len(cover)))
    return _in_background(images, images * (1 - whole) + whole, masks)


def _text(images: Tensor, masks: Tensor, height: float, corner: Corner) -> Tensor:
    pixels = max(5, round(height * min(images.shape[-2:])))
    return corner_mark(images, masks, torch.from_numpy(letters(WORDS, pixels).copy()), corner)


def _glyph(
    images: Tensor, masks: Tensor, glyph: np.ndarray[tuple[int, int], np.dtype[np.float32]], corner: Corner
) -> Tensor:
    side = max(5, round(0.1 * min(images.shape[-2:])))
    return corner_mark(images, masks, torch.from_numpy(glyphs.resize(glyph, side).copy()), corner)


def border(images: Tensor, masks: Tensor, depth: float, edges: tuple[str, ...]) -> Tensor:
    """Black strips, as of collimation, at some edges, `depth` of the side deep."""
    changed = images.clone()
    rows, columns = (max(1, round(depth * side)) for side in images.shape[-2:])
    strips: dict[str, tuple[Any, ...]] = {"left": np.s_[..., :columns], "right": np.s_[..., -columns:]}
    strips |= {"top": np.s_[..., :rows, :], "bottom": np.s_[..., -rows:, :]}
    for edge in edges:
        changed[strips[edge]] = 0
    return _in_background(images, changed, masks)


def gradient(images: Tensor, masks: Tensor, rise: float, towards: str) -> Tensor:
    """A background that brightens towards one edge, by `rise` at most."""
    rows, columns = images.shape[-2:]
    along = torch.linspace(0, 1, columns if towards in ("left", "right") else rows)
    along = along.flip(0) if towards in ("left", "top") else along
    ramp = along[None, :] if towards in ("left", "right") else along[:, None]
    return _in_background(images, (images + rise * ramp).clamp(0, 1), masks)


def blur(images: Tensor, masks: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `sigma` pixels."""
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = weights / weights.sum()
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])


def sharpen(images: Tensor, masks: Tensor, amount: float) -> Tensor:
    """Unsharp mask: the difference to a blur of 1 pixel, added `amount` times."""
    return (images + amount * (images - blur(images, masks, 1.0))).clamp(0, 1)


def noise(images: Tensor, masks: Tensor, sigma: float) -> Tensor:
    """Gaussian noise, its own in every image, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    return (images + sigma * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def jpeg(images: Tensor, masks: Tensor, quality: int) -> Tensor:
    """Compressed to JPEG and back."""
    found = []
    for image in images[:, 0].numpy():
        stream = io.BytesIO()
        Image.fromarray(np.rint(image.clip(0, 1) * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(stream, formats=["JPEG"]), dtype=np.float32) / 255)
    return torch.from_numpy(np.stack(found))[:, None]


def crop(images: Tensor, masks: Tensor, edge: float) -> Tensor:
    """The middle of the image, `edge` of the side cut off all around, at the size of the whole."""
    rows, columns = images.shape[-2:]
    top, left = max(1, round(edge * rows)), max(1, round(edge * columns))
    inner = images[..., top : rows - top, left : columns - left]
    return F.interpolate(inner, size=(rows, columns), mode="bilinear", align_corners=False)


def gamma(images: Tensor, masks: Tensor, exponent: float) -> Tensor:
    """Grey values to a power."""
    return images.clamp(0, 1) ** exponent


def contrast(images: Tensor, masks: Tensor, factor: float) -> Tensor:
    """Grey values spread, or drawn together, about the image's mean."""
    mean = images.mean((-2, -1), keepdim=True)
    return (mean + factor * (images - mean)).clamp(0, 1)


def _catalogue() -> tuple[ImposedChange, ...]:
    shapes = {
        "letter L": glyphs.letter("L"), "letter R": glyphs.letter("R"),
        "upright bar": glyphs.mark(0), "level bar": glyphs.mark(1), "cross": glyphs.mark(2),
    }  # fmt: skip
    where = {corner: corner.value.replace("_", " ") for corner in Corner}
    found = [
        ImposedChange("corner text", f"{where[c]}, {h:.0%} high", partial(_text, height=h, corner=c))
        for h, c in product((0.05, 0.08), Corner)
    ]
    found += [
        ImposedChange("marker", f"{name}, {where[c]}", partial(_glyph, glyph=glyph, corner=c))
        for (name, glyph), c in product(shapes.items(), Corner)
    ]
    found += [
        ImposedChange("border", f"{edge}, {d:.0%} deep", partial(border, depth=d, edges=(edge,)))
        for d, edge in product((0.05, 0.1), EDGES)
    ]
    found += [
        ImposedChange("gradient", f"to the {e}, by {r:g}", partial(gradient, rise=r, towards=e))
        for r, e in product((0.2, 0.4, 0.8), EDGES)
    ]
    doses: tuple[tuple[str, str, Callable[..., Tensor], str, tuple[float, ...]], ...] = (
        ("collimation", "{:.0%} deep at all edges", partial(border, edges=EDGES), "depth", (0.03, 0.06, 0.1)),
        ("blur", "{:g} pixels", blur, "sigma", (0.5, 1.0, 1.5)),
        ("sharpening", "amount {:g}", sharpen, "amount", (0.5, 1.0, 2.0)),
        ("noise", "standard deviation {:g}", noise, "sigma", (0.02, 0.05, 0.1)),
        ("JPEG", "quality {:d}", jpeg, "quality", (50, 20, 8)),
        ("crop", "{:.0%} at all edges", crop, "edge", (0.03, 0.06, 0.1)),
        ("gamma", "{:g}", gamma, "exponent", (0.6, 0.8, 1.25, 1.6)),
        ("contrast", "times {:g}", contrast, "factor", (0.6, 0.8, 1.25, 1.6)),
    )
    for kind, text, apply, setting, values in doses:
        found += [ImposedChange(kind, text.format(v), partial(apply, **{setting: v})) for v in values]
    return tuple(found)


IMPOSED_CHANGES = _catalogue()
"""All changes. A new kind is a function and an entry above."""
