"""Provenance of an image: what was read from its file, applied and assumed; free of a person's identity."""

from dataclasses import dataclass, fields
from enum import Enum

from cxr_isnet.imaging.acceptance import Flag


@dataclass(frozen=True)
class Provenance:
    """The provenance of one radiograph, a row of `provenance.csv`.

    Attributes:
        modality: Modality (0008,0060).
        sop_class: name of the SOP class (0008,0016).
        transfer_syntax: name of the encoding of the pixels (0002,0010).
        photometric: PhotometricInterpretation (0028,0004), as the tag says.
        rows: of the image, pixels.
        columns: of the image, pixels.
        bits_stored: BitsStored (0028,0101).
        pixel_spacing: row spacing of ImagerPixelSpacing (0018,1164), else of PixelSpacing (0028,0030), mm; None where
            absent or not positive.
        view: as `View`, from the tags.
        body_part: BodyPartExamined (0018,0015).
        manufacturer: Manufacturer (0008,0070).
        model: ManufacturerModelName (0008,1090).
        polarity_score: as `cxr_isnet.imaging.polarity` gives it, of the image rendered by its tags.
        frontal_score: as `cxr_isnet.imaging.frontal_score` gives it: how much the image looks like an upright frontal
            chest; below 0 it is flagged.
        applied: steps of the rendering, in order.
        assumed: assumptions, where tags are missing or make no sense.
        flags: reasons for manual review.
    """

    modality: str
    sop_class: str
    transfer_syntax: str
    photometric: str
    rows: int
    columns: int
    bits_stored: int
    pixel_spacing: float | None
    view: str
    body_part: str
    manufacturer: str
    model: str
    polarity_score: float
    frontal_score: float
    applied: tuple[str, ...]
    assumed: tuple[str, ...]
    flags: tuple[Flag, ...]

    def cells(self) -> dict[str, str]:
        """The cells of the row by column; several entries of a field are joined by "; "."""
        return {column.name: _cell(getattr(self, column.name)) for column in fields(self)}


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(_cell, value))
    if isinstance(value, Enum):
        return str(value.value)
    return "" if value is None else str(value)
