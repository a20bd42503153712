"""What the header of a DICOM file tells of an image beyond its table; no tag that names a person is read."""

import logging
from dataclasses import replace

import pydicom
from pydicom.errors import InvalidDicomError

from cxr_isnet.manifests.sources.demographics import years
from cxr_isnet.manifests.sources.labels import DroppedError
from cxr_isnet.manifests.sources.source import Record

logger = logging.getLogger(__name__)

_TAGS = ["ViewPosition", "PatientSex", "PatientAge"]
_FAULTS = (ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, OSError, TypeError, ValueError)


def with_header(record: Record) -> Record:
    """The record with view, sex and age filled from ViewPosition (0018,5101), PatientSex (0010,0040) and PatientAge
    (0010,1010) where it has none.

    Raises:
        DroppedError: the file is not DICOM, or its header is broken.
    """
    try:
        header = pydicom.dcmread(record.image, stop_before_pixels=True, specific_tags=_TAGS)
        view, sex, age = (str(header.get(tag) or "") for tag in _TAGS)
    except (InvalidDicomError, *_FAULTS) as error:
        logger.warning("%s: the DICOM header cannot be read: %s", record.image, error)
        raise DroppedError("DICOM header cannot be read") from error
    return replace(
        record,
        view=record.view or view,
        sex=record.sex or sex,
        age=years(age) if record.age is None else record.age,
    )
