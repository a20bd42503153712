"""Lung masks as arrays of 0 and 1."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.images import decode_picture


def read_mask(path: str | Path) -> NDArray[np.uint8]:
    """Read one lung mask.

    Foreground is what lies above the middle of the format's range: above 127 in 8-bit pictures (colour as
    luma), above 32767 in 16-bit ones, set in 1-bit ones. A mask stored as 0 and 1 in 8 bits would be empty
    by this rule; it is recognised by its largest value and taken as it is.

    Args:
        path: PNG or another format that Pillow reads.

    Returns:
        (rows, columns) of 0 and 1; may be empty, which `cxr_isnet.data.read_pair` refuses.

    Raises:
        InputError: the file is missing or cannot be decoded.
    """
    picture = decode_picture(Path(path))
    if picture.mode == "F":
        raise InputError(f"{path}: a mask with floating-point pixels. Save it as 8-bit grey, lung = 255")
    wide = picture.mode.startswith("I")
    values = np.asarray(picture if wide else picture.convert("L"))
    if values.max() == 1:
        return values.astype(np.uint8)
    return (values > (32767 if wide else 127)).astype(np.uint8)
