"""Preprocessing of images and masks for a network, the same in training and in use: resize, equalize."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image

SMALLEST_SIZE, LARGEST_SIZE = 32, 4096
HISTOGRAM_BINS = 1024
BLACK = 2 / 255
"""Grey value up to which a pixel counts as outside the field of view."""


@dataclass(frozen=True)
class ImageConfig:
    """Input of a network.

    Attributes:
        size: rows and columns, in pixels, at least 32; an image that is not square is squeezed.
        equalize: histogram equalization inside the field of view, which removes most of a hospital's exposure.

    Raises:
        InputError: `size` is below 32.

    Example:
        >>> ImageConfig(size=128)
        ImageConfig(size=128, equalize=True)
    """

    size: int = 224
    equalize: bool = True

    def __post_init__(self) -> None:
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE:
            raise InputError(f"image size is {self.size} pixels; give {SMALLEST_SIZE} to {LARGEST_SIZE}")


def prepare_image(image: NDArray[np.float32], config: ImageConfig) -> Tensor:
    """Network input of an image: resize with antialiasing, then equalize.

    Args:
        image: (rows, columns) in [0, 1], as `cxr_isnet.imaging.read_image` returns it.
        config: size and equalization.

    Returns:
        (1, size, size) float32 in [0, 1].
    """
    resized = resize_image(image, config)
    return equalize(resized) if config.equalize else resized


def load_image(path: str | os.PathLike[str], config: ImageConfig = ImageConfig()) -> Tensor:
    """An image file as a network gets it: read, resized, equalized.

    Args:
        path: DICOM, PNG or JPEG.
        config: size and equalization; that of a trained classifier is its `image`.

    Returns:
        (1, size, size) float32 in [0, 1].

    Raises:
        InputError: the file cannot be read; names it.

    Example:
        >>> load_image("chest.dcm", ImageConfig(size=128)).shape
        torch.Size([1, 128, 128])
    """
    return prepare_image(read_image(os.fspath(path)), config)


def resize_image(image: NDArray[np.float32], config: ImageConfig) -> Tensor:
    """First half of `prepare_image`: resize, grey values as they are.

    Args:
        image: (rows, columns) in [0, 1].
        config: size.

    Returns:
        (1, size, size) float32 in [0, 1].
    """
    return _resize(image, config.size).clamp(0.0, 1.0)


def equalize(image: Tensor) -> Tensor:
    """Histogram equalization: each grey value becomes the share of the field of view that is darker; black stays black.

    Black borders do not count: how wide a hospital collimates must not decide how bright its lungs are.

    Own code in place of MONAI's `HistogramNormalize`, which fails on a constant image and leaves the first
    of its bins, often a fifth of a radiograph, out of the shares. The bins are a power of two, so that
    a grey value times their number is exact: its integer part is the bin, its rest the place in the bin. A look-up by
    them gives bit for bit what `numpy.interp` over the bins' edges does, in a tenth of its time.

    Args:
        image: any shape, float32 in [0, 1].

    Returns:
        The same shape, in [0, 1].
    """
    grey = image.numpy()
    place = np.where(grey > BLACK, np.minimum(grey, np.float32(1)), np.float32(0)) * np.float32(HISTOGRAM_BINS)
    bins = place.astype(np.intp)
    counts = np.bincount(bins.ravel(), minlength=HISTOGRAM_BINS + 1)
    counts[0] = 0  # all that is black, and nothing else: BLACK lies bins above
    counts[-2] += counts[-1]  # grey value 1 belongs to the last bin
    shares = np.concatenate(([0.0], np.cumsum(counts[:-1]) / max(1, counts[:-1].sum())))
    rises = np.append(np.diff(shares), 0.0)
    return torch.from_numpy((shares.take(bins) + rises.take(bins) * (place - bins)).astype(np.float32))


def prepare_mask(mask: NDArray[np.uint8], config: ImageConfig) -> Tensor:
    """Network mask of a lung mask: resize; a pixel is lung where at least half of it was.

    Args:
        mask: (rows, columns) of 0 and 1.
        config: size.

    Returns:
        (1, size, size) float32 of 0 and 1.
    """
    return (_resize(mask.astype(np.float32), config.size) >= 0.5).float()


def _resize(array: NDArray[np.float32], size: int) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))[None, None]
    if tensor.shape[-2:] == (size, size):
        return tensor[0].clone()
    return interpolate(tensor, size=(size, size), mode="bilinear", antialias=True)[0]
