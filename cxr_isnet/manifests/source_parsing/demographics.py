"""View, sex and age in one spelling, from the publisher's words or the DICOM header."""

import logging
import re
from dataclasses import replace

from cxr_isnet.imaging import Header, RejectedFile, View, find_view, open_header
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError
from cxr_isnet.manifests.source_parsing.source import Record

logger = logging.getLogger(__name__)

_VIEWS = {
    "pa": "PA",
    "ap": "AP",
    "ap supine": "AP",
    "ap erect": "AP",
    "ap semi erect": "AP",
    "ap horizontal": "AP",
    "aps": "AP",
    "posteroanterior": "PA",
    "anteroposterior": "AP",
    "frontal": "",
}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 52.18, "d": 365.25, "t": 365.25}
"""Initial of a unit (t: that of the German days) to how many make a year."""


def frontal_view(text: str, *, keeps_unknown: bool) -> str:
    """`PA`, `AP`, or "" for a frontal image of unknown view.

    Args:
        text: the publisher's word for the view.
        keeps_unknown: whether "" stands for a frontal image.

    Raises:
        DroppedError: not a frontal view, or an unknown one.
    """
    view = text.strip()
    if not view:
        if keeps_unknown:
            return ""
        raise DroppedError("view is unknown")
    known = _VIEWS.get(re.sub(r"[\s_-]+", " ", view).lower())
    if known is None:
        raise DroppedError(f"view '{view}' is not frontal")
    return known


def years(text: str) -> float | None:
    """Age in years from text as '45', '027Y', '45yrs', '16month', '64days' or '[67]'; None without a number.

    Source: the DICOM form nnnD, nnnW, nnnM, nnnY is PS3.5, 6.2 (AS).
    """
    found = _AGE.search(text)
    if found is None:
        return None
    number, unit = found.groups()
    return round(float(number) / _PER_YEAR.get(unit[:1].lower() or "y", 1.0), 2)


def with_header(record: Record) -> Record:
    """The record with view, sex and age filled from the DICOM header where the publisher gives none.

    The tags are those of `find_view`, PatientSex (0010,0040) and PatientAge (0010,1010); nothing of a text is taken but
    the view that it names.

    Raises:
        DroppedError: the file is not DICOM, or its header is broken.
    """
    try:
        with open_header(record.image) as header:
            return replace(
                record,
                view=record.view or _view(header),
                sex=record.sex or header.text("PatientSex"),
                age=years(header.text("PatientAge")) if record.age is None else record.age,
            )
    except RejectedFile as error:
        logger.warning("%s: the DICOM header cannot be read: %s", record.image, error)
        raise DroppedError("DICOM header cannot be read") from error


def _view(header: Header) -> str:
    found = find_view(header).view
    return "" if found is View.UNKNOWN else found.value
