"""One image of unknown origin, a file or bytes, with what its header says: for a model in use."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.imaging.acceptance import SCORING_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import check_regular, read_radiograph
from cxr_isnet.imaging.header import INFLATED_PER_PIXEL, LARGEST_PIXELS, PREAMBLE, Header, starts_like_dicom
from cxr_isnet.imaging.images import decode_picture, grey_values
from cxr_isnet.imaging.provenance import Provenance
from cxr_isnet.imaging.rejection import RejectedFile

_FORMATS = ("PNG", "JPEG")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True)
class UntrustedImage:
    """An image and what a model's user should know of it.

    Attributes:
        image: (rows, columns) float32 in [0, 1]; bright is dense.
        provenance: of a DICOM file; None of a picture.
        age: of the patient by PatientAge (0010,1010), in years; None where it is not given.
    """

    image: NDArray[np.float32]
    provenance: Provenance | None
    age: float | None


def read_untrusted(source: Path | bytes, *, largest_pixels: int = LARGEST_PIXELS) -> UntrustedImage:
    """Reads one chest X-ray of unknown origin: DICOM, PNG or JPEG.

    Args:
        source: A file, or its content.
        largest_pixels: An image of more is refused before any is decoded.

    Returns:
        The image; of DICOM one that `SCORING_RULES` accept, lateral and oblique views among them.

    Raises:
        InputError: It is no such image, not whole, or too large; `RejectedFile` for DICOM. The message names a file.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), "the content", largest_pixels)
    check_regular(source)
    try:
        with source.open("rb") as stream:
            return _read(stream, str(source), largest_pixels)
    except OSError as error:
        raise RejectedFile.unreadable(error).with_path(source) from error
    except RejectedFile as rejected:
        raise rejected.with_path(source) from rejected


def _read(stream: BinaryIO, name: str, largest_pixels: int) -> UntrustedImage:
    if not starts_like_dicom(stream.read(PREAMBLE + 4)):
        stream.seek(0)
        picture = decode_picture(stream, name, largest_pixels=largest_pixels, formats=_FORMATS)
        return UntrustedImage(grey_values(picture, name), None, None)
    accepted = AcceptanceConfig(other_views=True)
    most_inflated = INFLATED_PER_PIXEL * largest_pixels
    radiograph = read_radiograph(
        stream, accepted, SCORING_RULES, largest_pixels=largest_pixels, most_inflated=most_inflated
    )
    return UntrustedImage(radiograph.image(), radiograph.provenance, _age(radiograph.header))


def _age(header: Header) -> float | None:
    """PatientAge, a number of days, weeks, months or years (PS3.5, 6.2, VR AS), in years."""
    found = re.fullmatch(r"(\d{1,3})([DWMY])", header.text("PatientAge").upper())
    return int(found[1]) * _YEARS[found[2]] if found else None
