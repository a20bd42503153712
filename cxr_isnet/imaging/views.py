"""The view of a radiograph (PA, AP, lateral), by the tags that give it."""

from enum import Enum

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from cxr_isnet.imaging.header import Header


class View(Enum):
    """View position of a radiograph, as the manifest's column `view` spells it."""

    PA = "PA"
    AP = "AP"
    FRONTAL = "frontal"
    LATERAL = "lateral"
    OTHER = "other"
    UNKNOWN = "unknown"


_POSITIONS = {
    "PA": View.PA,
    "AP": View.AP,
    "FRONTAL": View.FRONTAL,
    **dict.fromkeys(("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT"), View.LATERAL),
    **dict.fromkeys(("LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBLIQUE", "DECUBITUS"), View.OTHER),
}
_CODES: tuple[tuple[Code, View], ...] = (
    (codes.SCT.PosteroAnterior, View.PA),
    (codes.SCT.AnteroPosterior, View.AP),
    (codes.SCT.Frontal, View.FRONTAL),
    (codes.SCT.LeftLateral, View.LATERAL),
    (codes.SCT.RightLateral, View.LATERAL),
    (codes.SCT.LateralProjection, View.LATERAL),
)


def find_view(header: Header) -> tuple[View, str]:
    """The view, and the keyword of the tag that gives it.

    The first that gives a view counts: ViewPosition (0018,5101), ViewCodeSequence (0054,0220), PatientOrientation
    (0020,0020).

    Args:
        header: of the file.

    Returns:
        (`View.UNKNOWN`, "") where no tag gives it.

    Source: DICOM PS3.3, C.8.1.2 (CR view positions), C.8.11.5 (DX positioning), C.7.6.1.1.1 (orientation);
    PS3.16, CID 4010 (DX view).
    """
    for keyword, view_of in (
        ("ViewPosition", _from_position),
        ("ViewCodeSequence", _from_codes),
        ("PatientOrientation", _from_orientation),
    ):
        view = view_of(header)
        if view is not View.UNKNOWN:
            return view, keyword
    return View.UNKNOWN, ""


def _from_position(header: Header) -> View:
    """The view by any known word, oblique and decubitus ones first: `AP SUPINE`, `DECUBITUS AP`."""
    words = header.text("ViewPosition").upper().replace("_", " ").split()
    found = [_POSITIONS[word] for word in words if word in _POSITIONS]
    for view in (View.OTHER, View.LATERAL):
        if view in found:
            return view
    return found[0] if found else View.UNKNOWN


def _from_codes(header: Header) -> View:
    """The view by code and scheme; pydicom compares the older SNOMED-RT codes with their SCT successors."""
    for item in header.items("ViewCodeSequence"):
        value, scheme = item.text("CodeValue"), item.text("CodingSchemeDesignator")
        if not value or not scheme:
            continue
        given = Code(value, scheme, item.text("CodeMeaning"))
        known = next((view for code, view in _CODES if code == given), None)
        return known or View.OTHER
    return View.UNKNOWN


def _from_orientation(header: Header) -> View:
    """Frontal where the image lies between left-right and head-foot; which side faced the tube stays unknown."""
    directions = header.texts("PatientOrientation")
    across = {text[:1].upper() for text in directions}
    if len(directions) != 2 or not across & {"H", "F"}:
        return View.UNKNOWN
    return View.FRONTAL if across & {"L", "R"} else View.LATERAL if across & {"A", "P"} else View.UNKNOWN
