"""An image file and its lung mask: read, checked, and at the size of a network's input."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cxr_isnet.data.preparation import ImageConfig, prepare_mask, resize_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image, read_mask

logger = logging.getLogger(__name__)

MAX_EXAMPLES = 5
READING_THREADS = min(4, os.cpu_count() or 1)
"""Files read at a time: decoding and resizing release the interpreter's lock."""


class ResizedPair(NamedTuple):
    """An image and its lung mask at the size of a network's input, grey values as they are.

    Attributes:
        image: (1, size, size) float32 in [0, 1].
        mask: (1, size, size) float32 of 0 and 1; None where there is none.
    """

    image: Tensor
    mask: Tensor | None


ReadPair = Callable[[str, str], ResizedPair]
"""What gives a pair by the path of the image and that of the mask, "" for none; raises `InputError`."""


def read_pair(image: str | Path, mask: str | Path) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Read an image and, unless its path is "", its mask.

    Args:
        image: path of an X-ray.
        mask: path of its lung mask, or "".

    Returns:
        (rows, columns) in [0, 1], and (rows, columns) of 0 and 1 or None.

    Raises:
        InputError: a file cannot be read; the mask has another size than the image, or is empty.
    """
    pixels = read_image(image)
    if mask == "":
        return pixels, None
    lungs = read_mask(mask, image)
    if lungs.shape != pixels.shape:
        raise InputError(
            f"{mask}: column 'mask': {_rows_by_columns(lungs)} pixels, but its image {image} has "
            f"{_rows_by_columns(pixels)}. Give a mask drawn on this image, or leave the cell empty"
        )
    if not lungs.any():
        raise InputError(
            f"{mask}: column 'mask': the mask is empty, no pixel is lung (above the middle of the range). "
            "Draw it anew, or leave the cell empty to train this image with the classification loss only"
        )
    return pixels, lungs


def read_resized(image: str | Path, mask: str | Path, config: ImageConfig) -> ResizedPair:
    """`read_pair`, then both at the size of a network's input.

    Args:
        image: path of an X-ray.
        mask: path of its lung mask, or "".
        config: the network's input.

    Raises:
        InputError: as `read_pair`.
    """
    pixels, lungs = read_pair(image, mask)
    return ResizedPair(resize_image(pixels, config), None if lungs is None else prepare_mask(lungs, config))


def check_files(frame: pd.DataFrame, read: Callable[[str, str], object] = read_pair) -> None:
    """Read every image and mask once, so that a long run does not stop at a bad file.

    Args:
        frame: as `cxr_isnet.manifests.read_manifest` returns it.
        read: reads a pair; that of an `ImageStore` keeps what it has read.

    Raises:
        InputError: lists the first problems and their number.
    """

    def problem(image: str, mask: str) -> str:
        try:
            read(image, mask)
        except InputError as error:
            return str(error)
        return ""

    pool = ThreadPoolExecutor(READING_THREADS)
    try:
        found = pool.map(problem, frame["image"], frame["mask"])
        bar = tqdm(found, total=len(frame), desc="check files", unit="image", disable=None)
        problems = [text for text in bar if text]
    finally:  # an interrupted check does not read the rest first
        pool.shutdown(cancel_futures=True)
    if problems:
        more = f"\nand {len(problems) - MAX_EXAMPLES} more" if len(problems) > MAX_EXAMPLES else ""
        raise InputError("\n".join(problems[:MAX_EXAMPLES]) + more)
    logger.info("checked %d images and %d masks", len(frame), int((frame["mask"] != "").sum()))


def _rows_by_columns(array: NDArray[Any]) -> str:
    return f"{array.shape[0]} x {array.shape[1]} (rows x columns)"
