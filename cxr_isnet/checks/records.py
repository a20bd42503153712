"""Records of images and masks: read once, small enough to keep for every file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_isnet.checks.local_features import FEATURE_SIDE, LocalFeatures, local_features
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import image_features, mask_features
from cxr_isnet.imaging import border_share, lung_areas, read_image, read_mask
from cxr_isnet.manifests import file_digest

THUMBNAIL = 128
"""Rows and columns of a thumbnail; the image is squeezed into the square."""

_FINE = 3 * THUMBNAIL
"""A multiple of both sides to which an image is reduced: it is gone through once."""

_SMALLEST_RANGE = 1e-3


@dataclass(frozen=True)
class ImageRecord:
    """Record of an X-ray.

    Attributes:
        path: of the file.
        problem: why it cannot be used; "" when it can, and only then is the rest filled.
        sha256: digest of the file; "" when there is no file.
        shape: rows and columns.
        thumbnail: (THUMBNAIL, THUMBNAIL) uint8, stretched to the full range of grey.
        blank: all of it has one grey value.
        local: its local features.
        features: what controls see of it.
    """

    path: str
    problem: str = ""
    sha256: str = ""
    shape: tuple[int, int] = (0, 0)
    thumbnail: NDArray[np.uint8] | None = None
    blank: bool = False
    local: LocalFeatures = field(default_factory=LocalFeatures.none)
    features: NDArray[np.float32] = field(default_factory=lambda: np.full(0, np.nan, dtype=np.float32))


@dataclass(frozen=True)
class MaskRecord:
    """Record of a lung mask.

    Attributes:
        path: of the file.
        problem: why it cannot be used; "" when it can, and only then is the rest filled.
        shape: rows and columns.
        area: lung as a share of the image.
        parts: shares of the image of its connected pieces, largest first, specks left out.
        border: share of the image's border that is lung.
        borders: sides of the image that it touches.
        thumbnail: (THUMBNAIL, THUMBNAIL) bool.
        features: what controls see of it.
    """

    path: str
    problem: str = ""
    shape: tuple[int, int] = (0, 0)
    area: float = 0.0
    parts: tuple[float, ...] = ()
    border: float = 0.0
    borders: tuple[str, ...] = ()
    thumbnail: NDArray[np.bool_] | None = None
    features: NDArray[np.float32] = field(default_factory=lambda: mask_features(None))


def image_record(path: str) -> ImageRecord:
    """Read an X-ray; an error becomes the `problem` of the record."""
    try:
        sha256 = file_digest(path)
    except OSError as error:
        return ImageRecord(path, problem=f"{path}: cannot be read: {error}. Correct the path or the file's rights")
    try:
        pixels = read_image(path)
    except InputError as error:
        return ImageRecord(path, problem=str(error), sha256=sha256)
    fine = _shrink(pixels, _FINE)
    small = _shrink(fine, THUMBNAIL)
    low, high = np.percentile(small, (0.5, 99.5))
    blank = bool(high - low < _SMALLEST_RANGE)

    def stretched(grey: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros_like(grey) if blank else np.clip((grey - low) / (high - low), 0.0, 1.0)

    return ImageRecord(
        path,
        sha256=sha256,
        shape=(pixels.shape[0], pixels.shape[1]),
        thumbnail=np.rint(255 * stretched(small)).astype(np.uint8),
        blank=blank,
        local=local_features(stretched(_shrink(fine, FEATURE_SIDE))),
        features=image_features(pixels),
    )


def mask_record(path: str, image: str | None = None) -> MaskRecord:
    """Read a mask, turned as its image is; an error becomes the `problem` of the record."""
    if not Path(path).is_file():
        return MaskRecord(path, problem=f"{path}: there is no such file")
    try:
        lungs = read_mask(path, image)
    except InputError as error:
        return MaskRecord(path, problem=str(error))
    edges = {"top": lungs[0], "bottom": lungs[-1], "left": lungs[:, 0], "right": lungs[:, -1]}
    return MaskRecord(
        path,
        shape=(lungs.shape[0], lungs.shape[1]),
        area=float(lungs.mean()),
        parts=tuple(float(pixels) / lungs.size for pixels in lung_areas(lungs)),
        border=border_share(lungs),
        borders=tuple(side for side, edge in edges.items() if edge.any()),
        thumbnail=_shrink(lungs.astype(np.float32), THUMBNAIL) >= 0.5,
        features=mask_features(lungs),
    )


def _shrink(pixels: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX), dtype=np.float32)
