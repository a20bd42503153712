"""DICOM radiographs rendered for a network: the grayscale pipeline of DICOM PS3.3 C.11, in [0, 1]."""

import math
import struct
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from cxr_isnet.errors import InputError

MODALITIES = ("CR", "DX", "DR")
_PREAMBLE = 128
_DECODING_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def is_dicom(path: Path) -> bool:
    """Whether the file carries the DICOM prefix after its preamble (PS3.10, 7.1)."""
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def read_dicom(path: Path) -> NDArray[np.float32]:
    """Read one radiograph: modality LUT, then VOI LUT or window, scaled to [0, 1], inverted at most once.

    Args:
        path: a DICOM file of modality CR, DX or DR with one grey frame.

    Returns:
        (rows, columns) in [0, 1]; bright is dense.

    Raises:
        InputError: names the tag that stands in the way.

    Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric interpretation).
    """
    try:
        header = pydicom.dcmread(path)
        _check_kind(header, path)
        stored = header.pixel_array
        values = np.asarray(apply_modality_lut(stored, header), dtype=np.float64)
        shown = _shown(values, header, path)
    except (InvalidDicomError, *_DECODING_ERRORS) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: pixel data (7FE0,0010) cannot be decoded: {error}. Copy the file anew from its source, "
            "or install the decoders with pip install 'cxr-isnet[dicom]'; else drop its row"
        ) from error
    if _is_inverted(header):
        shown = 1.0 - shown
    return shown.astype(np.float32)


def _check_kind(header: pydicom.Dataset, path: Path) -> None:
    modality = header.get("Modality", "")
    if modality not in MODALITIES:
        raise InputError(
            f"{path}: Modality (0008,0060) is {modality!r}, not one of {', '.join(MODALITIES)}. "
            "Give projection radiographs only"
        )
    for tag, keyword, wanted in (
        ("(0028,0002)", "SamplesPerPixel", 1),
        ("(0028,0008)", "NumberOfFrames", 1),
    ):
        value = header.get(keyword, wanted)
        if value != wanted:
            raise InputError(f"{path}: {keyword} {tag} is {value}, not {wanted}. Give one grey frame per file")
    if "BitsStored" not in header:
        raise InputError(f"{path}: BitsStored (0028,0101) is missing. Repair the header or drop the row")
    if "PixelData" not in header:
        raise InputError(f"{path}: PixelData (7FE0,0010) is missing. Copy the file anew from its source")


def _shown(values: NDArray[np.float64], header: pydicom.Dataset, path: Path) -> NDArray[np.float64]:
    """Grey in [0, 1] of values after the modality LUT: by VOI LUT, else window, else the full range."""
    if "VOILUTSequence" in header:
        return _through_table(values, header)
    center, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        low, high = _full_range(header)
        return np.clip((values - low) / (high - low), 0.0, 1.0)
    function = str(header.get("VOILUTFunction", "LINEAR"))
    smallest = 1.0 if function == "LINEAR" else 0.0
    if not math.isfinite(center) or not math.isfinite(width) or width <= smallest:
        raise InputError(
            f"{path}: WindowWidth (0028,1051) is {width} at center {center}; {function} needs a width above "
            f"{smallest:g}. Remove the window or correct it"
        )
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    return np.clip((values - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _through_table(values: NDArray[np.float64], header: pydicom.Dataset) -> NDArray[np.float64]:
    bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    looked_up = apply_voi(np.rint(values).astype(np.int32), header, index=0)
    return np.asarray(looked_up / (2.0**bits - 1.0), dtype=np.float64)


def _full_range(header: pydicom.Dataset) -> tuple[float, float]:
    """The range of the stored bits, seen through the rescale slope and intercept."""
    bits = int(header.BitsStored)
    signed = header.get("PixelRepresentation", 0) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if "ModalityLUTSequence" in header:
        return 0.0, float(2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _first(value: object) -> float | None:
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(str(value))


def _is_inverted(header: pydicom.Dataset) -> bool:
    """MONOCHROME1 and PresentationLUTShape INVERSE say the same, low is bright: either inverts, once."""
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        return True
    return bool(header.get("PresentationLUTShape") == "INVERSE")
