"""View, sex and age, which every publisher spells in another way."""

import re

from cxr_isnet.manifests.source_parsing.labels import DroppedError

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
}
_SEXES = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M", "o": "O", "other": "O"}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 52.18, "d": 365.25}


def frontal_view(text: str, *, keeps_unknown: bool) -> str:
    """`PA`, `AP`, or "" for a frontal image whose view is not told.

    Args:
        text: the publisher's word for the view.
        keeps_unknown: whether "" stands for a frontal image.

    Raises:
        DroppedError: not a frontal view, or none is told.
    """
    view = text.strip()
    if not view:
        if keeps_unknown:
            return ""
        raise DroppedError("view is not told")
    known = _VIEWS.get(re.sub(r"[\s_-]+", " ", view).lower())
    if known is None:
        raise DroppedError(f"view '{view}' is not frontal")
    return known


def sex(text: str) -> str:
    """`F`, `M`, `O`, or "" where none of them is told; w, for the German word, is female."""
    return _SEXES.get(text.strip().lower(), "")


def years(text: str) -> float | None:
    """Age in years from text as '45', '027Y', '45yrs', '16month', '64days' or '[67]'; None without a number.

    Source: the DICOM form nnnD, nnnW, nnnM, nnnY is PS3.5, 6.2 (AS).
    """
    found = _AGE.search(text)
    if found is None:
        return None
    number, unit = found.groups()
    return round(float(number) / _PER_YEAR.get(unit[:1].lower() or "y", 1.0), 2)
