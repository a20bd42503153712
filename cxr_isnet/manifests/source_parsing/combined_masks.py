"""One lung mask of the image's size, from what a publisher ships: one file or one per lung, of any size."""

from pathlib import Path

import numpy as np
from PIL import Image

from cxr_isnet.files import atomic_write
from cxr_isnet.imaging.dicom import is_dicom
from cxr_isnet.imaging.header import open_header
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError

_MAX_STRETCH = 0.02
_UNREADABLE = (EOFError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)


class NoMaskError(Exception):
    """An image that keeps its row without a mask; the message is the reason under which it is counted."""


def one_mask(image: Path, masks: tuple[Path, ...], target: Path) -> Path:
    """The publisher's file where it fits as it is, else a mask made of the files and written to `target`.

    Masks are united by their maximum, and brought to the image's size by nearest neighbour: no grey is invented.

    Args:
        image: DICOM, PNG or JPEG.
        masks: one or more files that together cover the lungs.
        target: PNG to write if one must be made.

    Raises:
        DroppedError: the image cannot be opened.
        NoMaskError: a mask is missing or cannot be opened, the masks are of several sizes, or their shape is not the
            image's, so that bringing them to its size would distort them.
    """
    if not all(mask.is_file() for mask in masks):
        raise NoMaskError("mask file is missing")
    size = _size(image)
    try:
        if len(masks) == 1:
            with Image.open(masks[0]) as picture:
                if picture.size == size:
                    return masks[0]
        united = _united(masks)
    except _UNREADABLE as error:
        raise NoMaskError("mask cannot be opened") from error
    stretch = (united.width / size[0]) / (united.height / size[1])
    if abs(stretch - 1) > _MAX_STRETCH:
        raise NoMaskError("mask has another shape than its image")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as partial:
        united.resize(size, Image.Resampling.NEAREST).save(partial)
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
        with Image.open(image) as picture:
            return picture.size
    except _UNREADABLE as error:
        raise DroppedError("image cannot be opened") from error


def _united(masks: tuple[Path, ...]) -> Image.Image:
    layers = []
    for mask in masks:
        with Image.open(mask) as picture:
            layers.append(np.asarray(picture.convert("L")))
    if len({layer.shape for layer in layers}) > 1:
        raise NoMaskError("masks of an image have several sizes")
    return Image.fromarray(np.maximum.reduce(layers))
