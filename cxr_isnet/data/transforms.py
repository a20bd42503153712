"""Transforms from a manifest's row to tensors; the checks that an image and its mask must pass."""

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.transforms.transform import Transform
from numpy.typing import NDArray
from tqdm import tqdm

from cxr_isnet.data.preparation import ImageConfig, equalize, prepare_mask, resize_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image, read_mask

logger = logging.getLogger(__name__)

MAX_EXAMPLES = 5


class LoadChestXrayd(Transform):
    """Load, check and resize the files of one item.

    Reads the paths under `image` and, unless it is missing or "", `mask`; replaces them with (1, size,
    size) float32 tensors and adds `has_mask`. An item without a mask gets zeros.
    """

    def __init__(self, config: ImageConfig) -> None:
        """Set up for the network input `config`."""
        self.config = config

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load one item.

        Args:
            data: `image` and, optional, `mask`: paths.

        Returns:
            A new item: `image`, `mask` (1, size, size) float32, `has_mask` () bool.

        Raises:
            InputError: a file cannot be read, or the mask does not fit.
        """
        image, mask = read_pair(data["image"], data.get("mask", ""))
        size = self.config.size
        empty = torch.zeros(1, size, size)
        return {
            **data,
            "image": resize_image(image, self.config),
            "mask": empty if mask is None else prepare_mask(mask, self.config),
            "has_mask": torch.tensor(mask is not None),
        }


class EqualizeXrayd(Transform):
    """Histogram equalization of an item's image, the second half of `prepare_image`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one item; `image` (1, H, W) float32 in [0, 1] stays so."""
        return {**data, "image": equalize(data["image"])}


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


def check_files(frame: pd.DataFrame) -> None:
    """Read every image and mask once, so that a long run does not stop at a bad file.

    Args:
        frame: as `cxr_isnet.manifests.read_manifest` returns it.

    Raises:
        InputError: lists the first problems and their number.
    """
    problems: list[str] = []
    pairs = zip(frame["image"], frame["mask"], strict=True)
    for image, mask in tqdm(pairs, total=len(frame), desc="check files", unit="image", disable=None):
        try:
            read_pair(image, mask)
        except InputError as error:
            problems.append(str(error))
    if problems:
        more = f"\nand {len(problems) - MAX_EXAMPLES} more" if len(problems) > MAX_EXAMPLES else ""
        raise InputError("\n".join(problems[:MAX_EXAMPLES]) + more)
    logger.info("checked %d images and %d masks", len(frame), int((frame["mask"] != "").sum()))


def _rows_by_columns(array: NDArray[Any]) -> str:
    return f"{array.shape[0]} x {array.shape[1]} (rows x columns)"
