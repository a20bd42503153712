"""Acceptance: whether a DICOM file is a usable chest radiograph, by its header alone.

A rule is one function; a new one is added to one of the two tuples at the end.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from cxr_isnet.imaging.header import Header
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason
from cxr_isnet.imaging.terms import NO_RADIOGRAPHS, OTHER
from cxr_isnet.imaging.views import DESCRIPTIONS, View, find_view, known_code
from cxr_isnet.imaging.vocabulary import is_chest


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
    NOT_FRONTAL = "not_frontal"
    CONTRADICTION = "contradiction"
    REPEATED_INSTANCE = "repeated_instance"
    SHARED_STUDY = "shared_study"
    MIXED_PATIENT = "mixed_patient"
    PLACEHOLDER_PATIENT = "placeholder_patient"


@dataclass(frozen=True)
class AcceptanceConfig:
    """Acceptance criteria of bulk intake, which by default accepts frontal chest radiographs of one frame.

    Attributes:
        modalities: Values of Modality (0008,0060) that are accepted; "" accepts files without one.
        multiframe: Accepts files of several frames and reads the first, instead of rejecting them.
        other_views: Accepts lateral, oblique and decubitus views too; the column `view` says which it is.
        burned_in: Accepts files whose BurnedInAnnotation (0028,0301) is YES: their pixels may show a name.
        chest_words: A hospital's own words for the chest, in BodyPartExamined (0018,0015) and in descriptions.
        frontal_words: A hospital's own words for a frontal view, in ViewPosition (0018,5101) and in descriptions.
        lateral_words: A hospital's own words for a lateral view.
    """

    modalities: tuple[str, ...] = ("CR", "DX", "DR")
    multiframe: bool = False
    other_views: bool = False
    burned_in: bool = False
    chest_words: tuple[str, ...] = ()
    frontal_words: tuple[str, ...] = ()
    lateral_words: tuple[str, ...] = ()


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

SMALLEST_SIDE = 32
"""Rows and columns below which nothing can be seen."""

_CHEST_CODES = (
    *(
        getattr(codes.SCT, name)
        for name in (
            "Chest", "Lung", "ApexOfLung", "Rib", "Sternum", "Heart", "Mediastinum", "Bronchus", "ChestAndAbdomen",
            "ChestAbdomenAndPelvis", "NeckAndChest", "NeckChestAndAbdomen", "NeckChestAbdomenAndPelvis",
        )
    ),
    Code("51185008", "SCT", "Thorax"),
    Code("T-D3000", "SRT", "Chest"),
)  # fmt: skip
_MONOCHROME = re.compile(r"MONOCHROME\W*[12]|")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "")


def modality(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts projection radiographs only; without Modality, by the SOP class."""
    given = header.text("Modality").upper()
    if given in config.modalities:
        return None
    if not given and header.text("SOPClassUID") in _RADIOGRAPHY_CLASSES:
        return AcceptanceNote(assumed="projection radiograph, by SOPClassUID")
    raise RejectedFile(
        RejectionReason.MODALITY,
        f"Modality (0008,0060) is {header.code('Modality')!r}, not one of {', '.join(config.modalities)}. "
        "Give projection radiographs only, or add the value (also the empty one) to acceptance.modalities",
    )


_RADIOGRAPHY_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)


def projection(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts what may be a projection radiograph, without Modality too, which some public sets leave out."""
    if header.text("Modality").upper() in NO_RADIOGRAPHS:
        raise RejectedFile(
            RejectionReason.MODALITY,
            f"Modality (0008,0060) is {header.code('Modality')!r}, no projection radiograph. Drop its row",
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
    samples, photometric = header.integer("SamplesPerPixel") or 1, header.text("PhotometricInterpretation").upper()
    if samples == 1 and _MONOCHROME.fullmatch(photometric):
        return None
    if samples == 3 and photometric in _COLOURS:
        return AcceptanceNote(assumed="grey is the luma of the colours", flag=Flag.COLOUR)
    grey = samples == 1 and photometric != "PALETTE COLOR"
    raise RejectedFile(
        RejectionReason.COLOUR,
        f"PhotometricInterpretation (0028,0004) is {header.code('PhotometricInterpretation')!r} with {samples} "
        f"samples per pixel. {'Correct it to MONOCHROME1 or MONOCHROME2' if grey else 'Export the grey image'}",
    )


def capture(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Flags secondary captures: another program, which may have changed grey values, has written them."""
    captures = (SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage)
    return AcceptanceNote(flag=Flag.SECONDARY_CAPTURE) if header.text("SOPClassUID") in captures else None


def body_part(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts the chest by BodyPartExamined or AnatomicRegionSequence, else by the first description that names a part.

    Flags a part that is not known, none that is named, and a description that contradicts the tag.
    """
    tags = _parts_by_tag(header, config)
    by_tag = True in tags or (False if tags else None)
    if by_tag is False:
        raise RejectedFile(
            RejectionReason.BODY_PART,
            f"BodyPartExamined (0018,0015) {header.code('BodyPartExamined')!r} or AnatomicRegionSequence (0008,2218) "
            "names another part than the chest. Drop the file, correct the tag, or add its word to "
            "acceptance.chest_words",
        )
    by_text = ((keyword, is_chest(header.text(keyword), config.chest_words)) for keyword in _PART_DESCRIPTIONS)
    keyword, is_part = next(((keyword, found) for keyword, found in by_text if found is not None), ("", None))
    if by_tag:
        return AcceptanceNote(flag=Flag.CONTRADICTION) if is_part is False or False in tags else None
    if is_part:
        return AcceptanceNote(assumed=f"chest, by {keyword}")
    if is_part is False:
        raise RejectedFile(
            RejectionReason.BODY_PART,
            f"{keyword} names another part than the chest. Drop the file, fill in BodyPartExamined (0018,0015), or add "
            "the word to acceptance.chest_words",
        )
    told = header.text("BodyPartExamined") or header.has_items("AnatomicRegionSequence")
    why = "the tag names a part that is not known" if told else "no tag names the body part"
    return AcceptanceNote(assumed=f"chest: {why}", flag=Flag.UNKNOWN_BODY_PART)


_PART_DESCRIPTIONS = (*DESCRIPTIONS, "RequestedProcedureDescription", "StudyDescription")


def _parts_by_tag(header: Header, config: AcceptanceConfig) -> set[bool]:
    """Whether the known parts that the tags name are the chest (True) or another one (False)."""
    named = [is_chest(header.text("BodyPartExamined"), config.chest_words)]
    if named[0] is None and header.code("BodyPartExamined") not in ("", OTHER):
        named = [False]
    for item in header.items("AnatomicRegionSequence"):
        code = known_code(item)
        if code is not None and code in _CHEST_CODES:
            named.append(True)
        elif code is not None and any(code == other for other in codes.cid4031.concepts.values()):
            named.append(False)
        else:
            named.append(is_chest(item.text("CodeMeaning"), config.chest_words))
    return {part for part in named if part is not None}


def body_part_term(header: Header, config: AcceptanceConfig) -> str:
    """BodyPartExamined (0018,0015) for tables: a term of the standard, CHEST for any word for it, `OTHER`, or ""."""
    term = header.code("BodyPartExamined")
    return "CHEST" if term == OTHER and is_chest(header.text("BodyPartExamined"), config.chest_words) else term


def view_position(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Accepts PA, AP or frontal views; flags files of which no tag gives the view, or two give different ones."""
    found = find_view(header, config.frontal_words, config.lateral_words)
    if found.view is View.UNKNOWN:
        why = f"{found.unread} gives one that is not known" if found.unread else "no tag names the view"
        return AcceptanceNote(assumed=f"frontal: {why}", flag=Flag.UNKNOWN_VIEW)
    if found.view in (View.LATERAL, View.OTHER) and not config.other_views:
        raise RejectedFile(
            RejectionReason.VIEW,
            f"{found.keyword} gives a view of kind '{found.view.value}', not a frontal one. Drop the file",
        )
    return AcceptanceNote(
        assumed="" if found.keyword == "ViewPosition" else f"view, by {found.keyword}",
        flag=Flag.CONTRADICTION if found.contradicted else None,
    )


def size(header: Header, config: AcceptanceConfig) -> AcceptanceNote | None:
    """Rejects images of a few pixels."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if rows is not None and columns is not None and min(rows, columns) < SMALLEST_SIDE:
        raise RejectedFile(
            RejectionReason.PIXEL_FORMAT,
            f"Rows (0028,0010) is {rows} and Columns (0028,0011) {columns}: at least {SMALLEST_SIDE} are needed. "
            "Drop the file",
        )
    return None


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


_RENDERING_RULES: tuple[AcceptanceRule, ...] = (presentation, frames, colour)

READING_RULES: tuple[AcceptanceRule, ...] = (projection, *_RENDERING_RULES)
"""Rules for a file that a manifest names: what stands in the way of rendering its pixels right, and nothing else."""

SCORING_RULES: tuple[AcceptanceRule, ...] = (*READING_RULES, size, capture, body_part, view_position)
"""Rules for a file that a model in use is given: a chest radiograph, whoever the patient is."""

INTAKE_RULES: tuple[AcceptanceRule, ...] = (
    modality, *_RENDERING_RULES, size, capture, body_part, view_position, burned_in, patient
)  # fmt: skip
"""Rules for a file found in a hospital's folder."""


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
