"""Chest X-rays of any supported format as arrays in [0, 1]."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.dicom import is_dicom, read_dicom

_DECODING_ERRORS = (
    EOFError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,  # how Pillow reports a broken PNG
    UnidentifiedImageError,
    ValueError,
)
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: str | Path) -> NDArray[np.float32]:
    """Read one chest X-ray, whatever its file name ends in.

    DICOM is known by its content and rendered by `read_dicom`. Of the formats that Pillow reads, 8-bit grey
    is divided by 255 and 16-bit grey by 65535; colour becomes luma (ITU-R 601).

    Args:
        path: a DICOM file, or PNG, JPEG, TIFF.

    Returns:
        (rows, columns) in [0, 1]; bright is dense.

    Raises:
        InputError: the file is missing, truncated, of another kind, or not a single frontal-type radiograph
            frame.
    """
    path = Path(path)
    return read_dicom(path) if is_dicom(path) else _scaled(decode_picture(path), path)


def decode_picture(path: Path) -> Image.Image:
    """Decode a file that is not DICOM.

    Returns:
        The picture, its pixels loaded.

    Raises:
        InputError: Pillow cannot read it whole.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file. Correct the path") from error
    except _DECODING_ERRORS as error:
        raise InputError(
            f"{path}: not a readable image ({error}). Give a whole PNG, JPEG or DICOM file, or drop its row"
        ) from error


def _scaled(picture: Image.Image, path: Path) -> NDArray[np.float32]:
    if picture.mode in _SIXTEEN_BIT_MODES:
        values = np.asarray(picture).astype(np.float32)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{path}: pixels from {values.min()} to {values.max()}. Save as 8- or 16-bit grey")
        return np.asarray(values / np.float32(65535), dtype=np.float32)
    if picture.mode == "F":
        raise InputError(f"{path}: floating-point pixels have no agreed range. Save as 8- or 16-bit grey")
    grey = np.asarray(picture.convert("L"), dtype=np.float32)
    return np.asarray(grey / np.float32(255), dtype=np.float32)
