"""What the header of a DICOM file tells of an image beyond its table; no tag that names a person is read."""

import logging
import struct
from dataclasses import replace
from pathlib import Path

import pydicom
from pydicom.config import disable_value_validation
from pydicom.errors import BytesLengthException, InvalidDicomError

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.labels import DroppedError
from cxr_isnet.manifests.source_parsing.source import Record

logger = logging.getLogger(__name__)

_FAULTS = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)


def with_header(record: Record) -> Record:
    """The record with view, sex and age filled from ViewPosition (0018,5101), PatientSex (0010,0040) and PatientAge
    (0010,1010) where it has none.

    Raises:
        DroppedError: the file is not DICOM, or its header is broken.
    """
    view, sex, age = header_values(record.image, "ViewPosition", "PatientSex", "PatientAge")
    return replace(
        record,
        view=record.view or view,
        sex=record.sex or sex,
        age=years(age) if record.age is None else record.age,
    )


def header_values(path: Path, *keywords: str) -> tuple[str, ...]:
    """Values of some elements as text, "" where an element is missing or empty.

    Raises:
        DroppedError: the file is not DICOM, or its header is broken.
    """
    try:
        with disable_value_validation():  # ages as '51', without a unit, are common
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
            return tuple(str(header.get(keyword) or "") for keyword in keywords)
    except _FAULTS as error:
        logger.warning("%s: the DICOM header cannot be read: %s", path, error)
        raise DroppedError("DICOM header cannot be read") from error
