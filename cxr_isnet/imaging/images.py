"""Chest X-rays of any supported format as arrays in [0, 1], and lung masks as arrays of 0 and 1."""

import logging
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.dicom import check_regular, is_dicom, read_dicom
from cxr_isnet.imaging.header import LARGEST_PIXELS, open_header
from cxr_isnet.imaging.orientation import Turn, turn_by_exif, turn_by_header
from cxr_isnet.imaging.png import SOFTWARE

logger = logging.getLogger(__name__)

_DECODING_ERRORS = (
    EOFError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,  # how Pillow reports a broken PNG
    UnidentifiedImageError,
    ValueError,
)
PICTURE_FORMATS = ("PNG", "JPEG", "TIFF")
"""Formats of pictures, as Pillow names them, beside which no parser is tried: one of the others starts a program."""
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: str | Path) -> NDArray[np.float32]:
    """Reads one chest X-ray, whatever the suffix of its name.

    DICOM is recognised by its content and rendered by `read_dicom`. Of a picture, 8-bit grey is
    divided by 255 and 16-bit grey by 65535; colour becomes luma (ITU-R BT.601). A warning tells of a 16-bit
    picture that uses fewer bits, once for each number of bits.

    PatientOrientation of DICOM and Orientation of EXIF are applied: head on top, the patient's right on the left.

    Args:
        path: a DICOM file, or PNG, JPEG, TIFF.

    Returns:
        (rows, columns) float32 in [0, 1]; bright is dense.

    Raises:
        InputError: the file is missing, truncated, of another kind, or a DICOM file that is no projection radiograph of
            one frame; `RejectedFile` for DICOM.
    """
    path = Path(path)
    return read_dicom(path) if is_dicom(path) else grey_values(decode_picture(path), path)


def _tell_unused_bits(bits: int, path: str | Path) -> None:
    """Warns once per number of bits of a 16-bit picture that uses fewer: it is dark, and maybe no picture at all."""
    if 0 < bits < 16 and bits not in _told:
        _told.add(bits)
        logger.warning(
            "%s: uses %d of its 16 bits, so that its brightest pixel has %.3f of full range. If it holds a detector's "
            "stored values, its polarity is unknown too: render it by its header "
            "(`cxr_isnet.imaging.read_raw_picture`). Told once for all pictures of %d bits",
            path,
            bits,
            2**bits / 65536,
            bits,
        )


_told: set[int] = set()


def read_mask(path: str | Path, image: str | Path | None = None) -> NDArray[np.uint8]:
    """Reads one lung mask.

    Foreground is what lies above the middle of the format's range: above 127 in 8-bit pictures (colour as luma), above
    32767 in 16-bit ones, set in 1-bit ones. A mask stored as 0 and 1 in 8 bits would be empty by this rule; it is
    recognised by its largest value and used as it is.

    A mask of an image that `read_image` turns is drawn on the image as stored, and is turned with it; unless it was
    predicted, which is on the image as read, or has the size of the turned image only.

    Args:
        path: PNG, JPEG or TIFF.
        image: file of its image, None for a mask by itself.

    Returns:
        (rows, columns) uint8 of 0 and 1; may be empty, which is an error for `cxr_isnet.data.read_pair`.

    Raises:
        InputError: the file is missing or cannot be decoded.
    """
    picture = decode_picture(Path(path))
    if picture.mode == "F":
        raise InputError(f"{path}: a mask with floating-point pixels. Save it as 8-bit grey, lung = 255")
    wide = picture.mode.startswith("I")
    values = np.asarray(picture if wide else picture.convert("L"))
    foreground = values if values.max() == 1 else values > (32767 if wide else 127)
    mask = foreground.astype(np.uint8)
    own = turn_by_exif(picture)
    if own or image is None or picture.info.get("Software") == SOFTWARE:
        return own(mask)
    turn, stored = image_turn(Path(image))
    return turn(mask) if turn and mask.shape == stored else mask


def image_turn(path: Path) -> tuple[Turn, tuple[int, int]]:
    """How `read_image` turns an image, and the rows and columns of it as stored.

    Args:
        path: a DICOM file or a picture; one that cannot be read is not turned.
    """
    try:
        if is_dicom(path):
            with open_header(path) as header:
                return turn_by_header(header), (header.integer("Rows") or 0, header.integer("Columns") or 0)
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            return turn_by_exif(picture), (picture.height, picture.width)
    except (InputError, *_DECODING_ERRORS):
        return Turn(), (0, 0)


def decode_picture(
    path: Path | BinaryIO,
    name: str = "",
    *,
    largest_pixels: int = LARGEST_PIXELS,
    formats: tuple[str, ...] = PICTURE_FORMATS,
) -> Image.Image:
    """Decodes a file that is not DICOM.

    Args:
        path: PNG, JPEG or TIFF, whatever its name; or the open file.
        name: what an open file is called in errors.
        largest_pixels: refuses a picture of more, before any is decoded.
        formats: as Pillow names them, the only ones to try.

    Returns:
        The picture, its pixels loaded.

    Raises:
        InputError: there is no such file, or Pillow cannot read it whole.
    """
    shown = name or path
    if isinstance(path, Path):
        check_regular(path)
    try:
        with Image.open(path, formats=formats) as picture:
            if picture.width * picture.height > largest_pixels:
                raise InputError(
                    f"{shown}: {picture.height} x {picture.width} pixels (rows x columns), more than {largest_pixels}. "
                    "Give a smaller image"
                )
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise InputError(f"{shown}: there is no such file. Correct the path") from error
    except InputError:
        raise  # a ValueError too
    except _DECODING_ERRORS as error:
        raise InputError(
            f"{shown}: not a readable image ({error}). Give a whole PNG, JPEG, TIFF or DICOM file, or drop its row"
        ) from error


def grey_values(picture: Image.Image, path: str | Path) -> NDArray[np.float32]:
    """Pixels (rows, columns) float32 in [0, 1] of a picture, as `read_image` says; `path` names it in errors."""
    turn = turn_by_exif(picture)
    if picture.mode in SIXTEEN_BIT_MODES:
        values = np.asarray(picture).astype(np.float32)
        if picture.info.get("Software") != SOFTWARE:
            _tell_unused_bits(int(values.max()).bit_length(), path)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{path}: pixels from {values.min()} to {values.max()}. Save as 8- or 16-bit grey")
        return turn(np.asarray(values / np.float32(65535), dtype=np.float32))
    if picture.mode == "F":
        raise InputError(f"{path}: floating-point pixels have no agreed range. Save as 8- or 16-bit grey")
    grey = np.asarray(picture.convert("L"), dtype=np.float32)
    return turn(np.asarray(grey / np.float32(255), dtype=np.float32))
