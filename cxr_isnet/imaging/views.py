"""The view of a radiograph (PA, AP, lateral), by the tags that give it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from cxr_isnet.imaging.header import Header
from cxr_isnet.imaging.vocabulary import views_in


class View(Enum):
    """View position of a radiograph, as the manifest's column `view` spells it."""

    PA = "PA"
    AP = "AP"
    FRONTAL = "frontal"
    LATERAL = "lateral"
    OTHER = "other"
    UNKNOWN = "unknown"


_VIEWS = {
    View.PA: (codes.SCT.PosteroAnterior, Code("R-10214", "SRT", "postero-anterior")),
    View.AP: (codes.SCT.AnteroPosterior,),
    View.FRONTAL: (codes.SCT.Frontal,),
    View.LATERAL: (
        codes.SCT.LeftLateral,
        codes.SCT.RightLateral,
        codes.SCT.LateralProjection,
        codes.SCT.MedioLateralProjection,
        codes.SCT.LateralMedial,
    ),
}
_FRONTAL = (View.PA, View.AP, View.FRONTAL)

SNOMED_SCHEMES = {"SCT": "SCT", "SRT": "SRT", "SNM3": "SRT", "99SDM": "SRT"}
"""Designators of SNOMED, retired ones among them, to the one that pydicom knows (PS3.16, 8.3 and Annex O)."""

DESCRIPTIONS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription",
)
"""Texts about one series. Those about a study, in which several views were taken, do not give the view."""


@dataclass(frozen=True)
class FoundView:
    """The view of a radiograph.

    Attributes:
        view: by the tag.
        keyword: of the tag that gives it; "" where none does.
        contradicted: keyword of a tag that gives another view, "" for none.
        unread: keyword of the first tag that says a view in words or codes which are not known, "" for none.
    """

    view: View = View.UNKNOWN
    keyword: str = ""
    contradicted: str = ""
    unread: str = ""


def find_view(header: Header, frontal_words: tuple[str, ...] = (), lateral_words: tuple[str, ...] = ()) -> FoundView:
    """The view by the tags.

    The first that gives a view counts: ViewPosition (0018,5101), ViewCodeSequence (0054,0220), the descriptions of the
    series, PatientOrientation (0020,0020).

    Args:
        header: of the file.
        frontal_words: a hospital's own words for a frontal view.
        lateral_words: a hospital's own words for a lateral view.

    Source: DICOM PS3.3, C.8.1.2 (CR view positions), C.8.11.5 (DX positioning), C.7.6.1.1.1 (orientation);
    PS3.16, CID 4010 (DX view).
    """

    def in_words(text: str) -> View:
        return _one_of(views_in(text, frontal_words, lateral_words))

    given = [
        ("ViewPosition", in_words(header.text("ViewPosition"))),
        ("ViewCodeSequence", _from_codes(header, in_words)),
        *((keyword, in_words(header.text(keyword))) for keyword in DESCRIPTIONS),
        ("PatientOrientation", _from_orientation(header)),
    ]
    told = [(keyword, view) for keyword, view in given if view is not View.UNKNOWN]
    said = {"ViewPosition": bool(header.text("ViewPosition")), "ViewCodeSequence": header.has_items("ViewCodeSequence")}
    unread = next((key for key, view in given if said.get(key) and view is View.UNKNOWN), "")
    if not told:
        return FoundView(unread=unread)
    keyword, view = told[0]
    contradicted = next((other for other, another in told[1:] if not _agree(view, another)), "")
    return FoundView(view, keyword, contradicted, unread)


def _one_of(found: frozenset[str]) -> View:
    """The view of words that name one: `AP SUPINE`, `DECUBITUS AP`; unknown of `PA AND LATERAL`."""
    if View.OTHER.value in found:
        return View.OTHER
    frontal = [view for view in _FRONTAL if view.value in found]
    if View.LATERAL.value in found:
        return View.UNKNOWN if frontal else View.LATERAL
    return View.FRONTAL if View.PA in frontal and View.AP in frontal else frontal[0] if frontal else View.UNKNOWN


def _agree(view: View, another: View) -> bool:
    return view is another or (view in _FRONTAL and another in _FRONTAL and View.FRONTAL in (view, another))


def known_code(item: Header) -> Code | None:
    """The SNOMED code of an item, by whatever designator; None of another scheme or of no code."""
    value = item.text("CodeValue") or item.text("LongCodeValue")
    scheme = SNOMED_SCHEMES.get(item.text("CodingSchemeDesignator").upper())
    return Code(value.upper(), scheme, "") if value and scheme else None


def _from_codes(header: Header, in_words: Callable[[str], View]) -> View:
    """The view by code, else by the words of the code's meaning."""
    for item in header.items("ViewCodeSequence"):
        code = known_code(item)
        if code is not None:
            for view, known in _VIEWS.items():
                if code in known:
                    return view
            if any(code == other for other in codes.cid4010.concepts.values()):
                return View.OTHER
        by_meaning = in_words(item.text("CodeMeaning"))
        if by_meaning is not View.UNKNOWN:
            return by_meaning
    return View.UNKNOWN


def _from_orientation(header: Header) -> View:
    """Frontal where the image lies between left-right and head-foot; which side faced the tube stays unknown."""
    directions = header.texts("PatientOrientation")
    across = {text[:1].upper() for text in directions}
    if len(directions) != 2 or not across & {"H", "F"}:
        return View.UNKNOWN
    return View.FRONTAL if across & {"L", "R"} else View.LATERAL if across & {"A", "P"} else View.UNKNOWN
