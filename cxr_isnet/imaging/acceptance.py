"""Acceptance: whether a DICOM file is a usable chest radiograph, by its header alone.

A rule is one function; a new one is added to one of the two tuples at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    DigitalXRayImageStorageForProcessing,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from cxr_isnet.imaging.header import Header
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason
from cxr_isnet.imaging.views import View, find_view


class Flag(Enum):
    """A reason for manual review of an accepted file, as the column `flags` spells it."""

    COLOUR = "colour"
    SECONDARY_CAPTURE = "secondary_capture"
    UNKNOWN_VIEW = "unknown_view"
    UNKNOWN_BODY_PART = "unknown_body_part"
    POLARITY = "polarity"
    POLARITY_CORRECTED = "polarity_corrected"
    LOW_CONTRAST = "low_contrast"
    CLIPPED = "clipped"
    TURNED = "turned"
    REPEATED_INSTANCE = "repeated_instance"
    SHARED_STUDY = "shared_study"
    MIXED_PATIENT = "mixed_patient"
    PLACEHOLDER_PATIENT = "placeholder_patient"


@dataclass(frozen=True)
class AcceptanceConfig:
    """Acceptance criteria of bulk intake, which by default accepts frontal chest radiographs of one frame.

    Attributes:
        modalities: Values of Modality (0008,0060) that are accepted.
        multiframe: Accepts files of several frames and reads the first, instead of rejecting them.
        other_views: Accepts lateral, oblique and decubitus views too; the column `view` says which it is.
        burned_in: Accepts files whose BurnedInAnnotation (0028,0301) is YES: their pixels may show a name.
    """

    modalities: tuple[str, ...] = ("CR", "DX", "DR")
    multiframe: bool = False
    other_views: bool = False
    burned_in: bool = False


@dataclass(frozen=True)
class AcceptanceNote:
    """What a rule notes about a file that it accepts.

    Attributes:
        assumed: the assumption made, "" for none.
        flag: reason for manual review, None for none.
    """

    assumed: str = ""
    flag: Flag | None = None


AcceptanceRule = Callable[[Header, AcceptanceConfig], AcceptanceNote | None]
"""Header and criteria to a note on an accepted file, None for none; raises `RejectedFile` for any other file."""

_CHEST_PARTS = ("CHEST", "THORAX", "LUNG", "RIB", "STERNUM", "TORSO")
_CHEST_WORDS = ("CHEST", "THORAX", "THORAC", "LUNG", "CXR")
_DESCRIPTIONS = ("StudyDescription", "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
_CHEST_CODES = (codes.SCT.Chest, codes.SCT.Lung, Code("51185008", "SCT", "Thorax"), Code("T-D3000", "SRT", "Chest"))


def modality(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts projection radiographs only."""
    if header.text("Modality") not in config.modalities:
        raise RejectedFile(
            RejectionReason.MODALITY,
            f"Modality (0008,0060) is {header.code('Modality')!r}, not one of {', '.join(config.modalities)}. "
            "Give projection radiographs only",
        )
    return None


def presentation(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Rejects raw detector data, which is meant for a vendor's processing, not for reading (PS3.3, C.8.11.1)."""
    raw = header.text("PresentationIntentType").upper() == "FOR PROCESSING"
    if raw or header.text("SOPClassUID") == DigitalXRayImageStorageForProcessing:
        raise RejectedFile(
            RejectionReason.FOR_PROCESSING,
            "PresentationIntentType (0008,0068) is 'FOR PROCESSING': raw detector data. "
            "Export the image FOR PRESENTATION",
        )
    return None


def frames(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts one frame, or the first of several if the configuration says so."""
    number = header.integer("NumberOfFrames") or 1
    if number == 1:
        return None
    if not config.multiframe:
        raise RejectedFile(
            RejectionReason.FRAMES,
            f"NumberOfFrames (0028,0008) is {number}, not 1. Give one frame per file, or ask for multiframe",
        )
    return AcceptanceNote(assumed=f"first of {number} frames")


def colour(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts RGB as luma and flags it, since a radiograph in colour is likely to be a screenshot."""
    samples = header.integer("SamplesPerPixel") or 1
    if samples not in (1, 3) or header.text("PhotometricInterpretation") == "PALETTE COLOR":
        raise RejectedFile(
            RejectionReason.COLOUR,
            f"PhotometricInterpretation (0028,0004) is {header.code('PhotometricInterpretation')!r} with {samples} "
            "samples per pixel. Export the grey image",
        )
    return AcceptanceNote(assumed="grey is the luma of the colours", flag=Flag.COLOUR) if samples == 3 else None


def capture(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Flags secondary captures: another program, which may have changed grey values, has written them."""
    captures = (SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage)
    return AcceptanceNote(flag=Flag.SECONDARY_CAPTURE) if header.text("SOPClassUID") in captures else None


def body_part(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts the chest by BodyPartExamined or AnatomicRegionSequence; assumes it by a description or without a tag."""
    part = header.text("BodyPartExamined").upper()
    if any(word in part for word in _CHEST_PARTS):
        return None
    regions = [
        Code(value, scheme, "")
        for item in header.items("AnatomicRegionSequence")
        if (value := item.text("CodeValue")) and (scheme := item.text("CodingSchemeDesignator"))
    ]
    if any(region == known for region in regions for known in _CHEST_CODES):
        return None
    if part or regions:
        seen = header.code("BodyPartExamined") or regions[0].value
        raise RejectedFile(
            RejectionReason.BODY_PART,
            f"BodyPartExamined (0018,0015) or AnatomicRegionSequence (0008,2218) is {seen!r}, not the chest. "
            "Drop the file, or correct the tag",
        )
    for keyword in _DESCRIPTIONS:
        if any(word in header.text(keyword).upper() for word in _CHEST_WORDS):
            return AcceptanceNote(assumed=f"chest, by {keyword}")
    return AcceptanceNote(assumed="chest: no tag names the body part", flag=Flag.UNKNOWN_BODY_PART)


def view_position(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts PA, AP or frontal views; flags files of which no tag gives the view."""
    view, keyword = find_view(header)
    if view is View.UNKNOWN:
        return AcceptanceNote(assumed="frontal: no tag names the view", flag=Flag.UNKNOWN_VIEW)
    if view in (View.LATERAL, View.OTHER) and not config.other_views:
        raise RejectedFile(
            RejectionReason.VIEW, f"{keyword} gives a view of kind '{view.value}', not a frontal one. Drop the file"
        )
    return None if keyword == "ViewPosition" else AcceptanceNote(assumed=f"view, by {keyword}")


def burned_in(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Rejects files whose pixels may show a person's name (PS3.3, C.7.6.1)."""
    if header.text("BurnedInAnnotation").upper() == "YES" and not config.burned_in:
        raise RejectedFile(
            RejectionReason.BURNED_IN,
            "BurnedInAnnotation (0028,0301) is 'YES': the picture may show a person's identity. Remove the text first",
        )
    return None


def patient(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Rejects files without a PatientID: images of one patient could come to lie in two splits."""
    if not header.text("PatientID"):
        raise RejectedFile(RejectionReason.NO_PATIENT, "PatientID (0010,0020) is missing. Fill it in, or drop the file")
    return None


READING_RULES: tuple[AcceptanceRule, ...] = (modality, presentation, frames, colour)
"""Rules for a file that a manifest names: what must hold for its pixels to be rendered right."""

INTAKE_RULES: tuple[AcceptanceRule, ...] = (*READING_RULES, capture, body_part, view_position, burned_in, patient)
"""Rules for a file found in a hospital's folder."""


SCORING_RULES: tuple[AcceptanceRule, ...] = (*READING_RULES, capture, body_part, view_position)
"""Rules for a file that a model in use is given: a chest radiograph, whoever the patient is."""


def at_most(pixels: int) -> AcceptanceRule:
    """The rule that refuses an image of more pixels, before any is decoded."""

    def rule(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
        rows, columns = header.integer("Rows") or 0, header.integer("Columns") or 0
        if rows * columns > pixels:
            raise RejectedFile(
                RejectionReason.LIMIT,
                f"Rows (0028,0010) is {rows} and Columns (0028,0011) {columns}: more than {pixels} pixels. "
                "Give a smaller image",
            )
        return None

    return rule


def check_acceptance(
    header: Header, config: AcceptanceConfig, rules: tuple[AcceptanceRule, ...]
) -> tuple[AcceptanceNote, ...]:
    """Applies acceptance rules in turn.

    Args:
        header: of the file.
        config: acceptance criteria.
        rules: `READING_RULES` or `INTAKE_RULES`.

    Returns:
        The notes of the rules on an accepted file.

    Raises:
        RejectedFile: by the first rule that is not met.
    """
    return tuple(note for rule in rules if (note := rule(header, config)) is not None)
