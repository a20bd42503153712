"""Combining a publisher's mask files, one or one per lung and of any size, into one lung mask of the image's size."""

from pathlib import Path

import numpy as np
from PIL import Image

from cxr_isnet.files import atomic_write
from cxr_isnet.imaging import PICTURE_FORMATS, is_dicom, open_header
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError

_MASK_FORMATS = (*PICTURE_FORMATS, "GIF", "BMP")  # SCR's are GIF
_MAX_STRETCH = 0.02
_UNREADABLE = (EOFError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)


class NoMaskError(Exception):
    """An image that keeps its row, but without a mask; the message is the reason under which it is counted."""


def combined_mask(image: Path, masks: tuple[Path, ...], target: Path) -> Path:
    """The publisher's file where it fits as it is, else a mask combined from the files and written to `target`.

    Masks are combined by their maximum and resized by nearest neighbour, so that no intermediate grey values arise.

    Args:
        image: DICOM, PNG or JPEG.
        masks: one or more files that together cover the lungs.
        target: PNG to write if masks must be combined.

    Returns:
        Path of the mask.

    Raises:
        DroppedError: the image cannot be opened.
        NoMaskError: a mask is missing or cannot be opened, the masks differ in size, or their aspect ratio is not the
            image's.
    """
    if not all(mask.is_file() for mask in masks):
        raise NoMaskError("mask file is missing")
    size = _size(image)
    try:
        if len(masks) == 1:
            with Image.open(masks[0], formats=_MASK_FORMATS) as picture:
                if picture.size == size and picture.format in PICTURE_FORMATS:
                    return masks[0]
        combined = _union(masks)
    except _UNREADABLE as error:
        raise NoMaskError("mask cannot be opened") from error
    stretch = (combined.width / size[0]) / (combined.height / size[1])
    if abs(stretch - 1) > _MAX_STRETCH:
        raise NoMaskError("mask has another shape than its image")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as partial:
        combined.resize(size, Image.Resampling.NEAREST).save(partial)
    return target


def _size(image: Path) -> tuple[int, int]:
    """Columns and rows of an image, from its header."""
    try:
        if is_dicom(image):
            with open_header(image) as header:
                columns, rows = header.integer("Columns"), header.integer("Rows")
            if not columns or not rows:
                raise DroppedError("image cannot be opened")
            return columns, rows
        with Image.open(image, formats=PICTURE_FORMATS) as picture:
            return picture.size
    except _UNREADABLE as error:
        raise DroppedError("image cannot be opened") from error


def _union(masks: tuple[Path, ...]) -> Image.Image:
    layers = []
    for mask in masks:
        with Image.open(mask, formats=_MASK_FORMATS) as picture:
            layers.append(np.asarray(picture.convert("L")))
    if len({layer.shape for layer in layers}) > 1:
        raise NoMaskError("masks of an image have several sizes")
    return Image.fromarray(np.maximum.reduce(layers))
