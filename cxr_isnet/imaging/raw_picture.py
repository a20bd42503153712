"""Pictures that hold a detector's stored values, as some public sets publish them, rendered by the tags beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.acceptance import AcceptanceConfig
from cxr_isnet.imaging.dicom import Radiograph, render_radiograph
from cxr_isnet.imaging.header import DICOM_ERRORS, Header, quiet_pydicom
from cxr_isnet.imaging.images import SIXTEEN_BIT_MODES, decode_picture
from cxr_isnet.imaging.rejection import RejectedFile

_HEADER_LIMIT = 16 << 20


def read_raw_picture(path: Path, header: Header) -> Radiograph:
    """Renders a picture whose pixels are stored values of a DICOM file, as the tags of that file say.

    The same steps as for the file itself: padding, modality LUT, window or VOI LUT, photometric interpretation.

    Args:
        path: a grey PNG or TIFF of 8 or 16 bits.
        header: of the DICOM file, e.g. of `read_json_header`; without BitsStored (0028,0101) the bits that the picture
            uses are taken. Its data set is changed.

    Returns:
        The radiograph; `image()` is it in [0, 1], bright is dense, `write_png` writes it as it should have been.

    Raises:
        InputError: the picture cannot be read or is in colour; it holds values that BitsStored does not allow, so they
            are not stored values; or the modality LUT cannot be applied.

    Example:
        >>> rendered = read_raw_picture(Path("scan.png"), read_json_header(Path("scan.json")))
        >>> rendered.image().shape
        (64, 64)
    """
    picture = decode_picture(path)
    if picture.mode != "L" and picture.mode not in SIXTEEN_BIT_MODES:
        raise InputError(f"{path}: mode {picture.mode!r}. Stored values are grey, of 8 or 16 bits")
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"{path}: pixels from {values.min()} to {values.max()}. Stored values have 8 or 16 bits")
    pixels: NDArray[np.unsignedinteger] = values.astype(np.uint8) if picture.mode == "L" else values.astype(np.uint16)
    used = int(pixels.max()).bit_length()
    bits = header.integer("BitsStored") or used
    if used > bits:
        raise InputError(
            f"{path}: uses {used} bits, but BitsStored (0028,0101) is {bits}: these are not the stored values. "
            "Read it as a picture"
        )
    header.dataset.BitsStored, header.dataset.HighBit = max(bits, 1), max(bits, 1) - 1
    with quiet_pydicom():
        try:
            return render_radiograph(pixels, header, str(picture.format), AcceptanceConfig())
        except RejectedFile as rejected:
            raise rejected.with_path(path) from rejected


def read_json_header(path: Path) -> Header:
    """The header of a DICOM file from its JSON.

    Args:
        path: a data set in the DICOM JSON model (PS3.18, Annex F), by tag.

    Returns:
        The header; an element that does not parse counts as absent.

    Raises:
        InputError: there is no such file, or it is no JSON object.
    """
    try:
        if path.stat().st_size > _HEADER_LIMIT:
            raise InputError(f"{path}: more than {_HEADER_LIMIT} bytes. A header is smaller: leave pixel data out")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}). Correct the path") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not JSON ({type(error).__name__}). Copy the file anew") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON {type(content).__name__}, not an object of tags")
    dataset = Dataset()
    with quiet_pydicom():
        for tag, element in content.items():
            try:
                dataset.update(Dataset.from_json({tag: element}))
            except DICOM_ERRORS:
                continue
    return Header(dataset)
