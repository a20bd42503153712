"""One DICOM radiograph: header, acceptance, pixels, rendering, check of the polarity, and provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.acceptance import (
    READING_RULES,
    AcceptanceConfig,
    AcceptanceNote,
    AcceptanceRule,
    Flag,
    at_most,
    body_part_term,
    check_acceptance,
)
from cxr_isnet.imaging.decoding import stored_pixels, transfer_syntax
from cxr_isnet.imaging.frontal import FRONTAL_ABOVE, frontal_score
from cxr_isnet.imaging.grayscale import GrayscaleLUT, invert, percentiles, render, subsample
from cxr_isnet.imaging.header import (
    LARGEST_PIXELS,
    MOST_INFLATED,
    PREAMBLE,
    Header,
    quiet_pydicom,
    read_header,
    read_pixel_data,
    starts_like_dicom,
)
from cxr_isnet.imaging.orientation import Turn, turn_by_header
from cxr_isnet.imaging.png import encode_png
from cxr_isnet.imaging.polarity import NEGATIVE_BELOW, downsample, polarity_score
from cxr_isnet.imaging.provenance import Provenance
from cxr_isnet.imaging.rejection import RejectedFile
from cxr_isnet.imaging.shutter import hide, visible_field
from cxr_isnet.imaging.terms import OTHER, manufacturer
from cxr_isnet.imaging.views import View, find_view

Grey = TypeVar("Grey", bound=np.generic)

_LOW_CONTRAST = 0.1
_MOST_CLIPPED = 0.75
_BAND_ROWS = 32
_DEVICE_LENGTH = 64  # of a value of VR LO (PS3.5, 6.2)


@dataclass(frozen=True)
class Radiograph:
    """A decoded radiograph with the lookup table that renders it.

    Attributes:
        pixels: (rows, columns) uint8 or uint16, bit patterns as stored.
        lut: `lut.values[pixels]` is the image in [0, 1]; bright is dense.
        provenance: what was read, applied and assumed.
        header: all tags; holds the patient's identity.
    """

    pixels: NDArray[np.unsignedinteger]
    lut: GrayscaleLUT
    provenance: Provenance
    header: Header = field(repr=False)

    def image(self) -> NDArray[np.float32]:
        """The rendered image, (rows, columns) float32 in [0, 1]; bright is dense."""
        return np.concatenate(list(_look_up(self.lut.values.astype(np.float32), self.pixels)))

    def uint16_bands(self) -> Iterator[NDArray[np.uint16]]:
        """The rendered image from 0 to 65535 in bands of some rows, big endian, as PNG stores it."""
        return _look_up(np.rint(self.lut.values * 65535).astype(">u2"), self.pixels)

    def write_png(self, path: Path) -> str:
        """Writes the rendered image as a 16-bit PNG; returns the SHA-256 of the file."""
        digest = hashlib.sha256()
        with path.open("wb") as stream:
            for piece in encode_png(self.pixels.shape, self.uint16_bands()):
                digest.update(piece)
                stream.write(piece)
        return digest.hexdigest()


def _look_up(values: NDArray[Grey], pixels: NDArray[np.unsignedinteger]) -> Iterator[NDArray[Grey]]:
    """`values[pixels]` in bands of some rows, which stay in the CPU's cache."""
    for top in range(0, len(pixels), _BAND_ROWS):
        yield values.take(pixels[top : top + _BAND_ROWS], mode="clip")  # no pixel is out of range: none is clipped


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, whatever its name; False where it cannot be read."""
    try:
        check_regular(path)
        with path.open("rb") as stream:
            return starts_like_dicom(stream.read(PREAMBLE + 4))
    except (OSError, InputError):
        return False


def check_regular(path: Path) -> None:
    """Raises `InputError` for what is there but no file: a pipe or a device would be read for ever."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a file. Name a DICOM, PNG, JPEG or TIFF file")


def read_dicom(path: Path) -> NDArray[np.float32]:
    """Reads and renders one radiograph that a manifest names.

    Args:
        path: a DICOM file of modality CR, DX or DR with one frame, for presentation.

    Returns:
        (rows, columns) float32 in [0, 1]; bright is dense.

    Raises:
        RejectedFile: names the file, the tag, the value seen and the remedy.
    """
    try:
        with path.open("rb") as stream:
            return read_radiograph(stream, AcceptanceConfig(), READING_RULES).image()
    except OSError as error:
        raise RejectedFile.unreadable(error).with_path(path) from error
    except RejectedFile as rejected:
        raise rejected.with_path(path) from rejected


def read_radiograph(
    stream: BinaryIO,
    acceptance: AcceptanceConfig,
    rules: tuple[AcceptanceRule, ...],
    *,
    largest_pixels: int = LARGEST_PIXELS,
    most_inflated: int = MOST_INFLATED,
) -> Radiograph:
    """Reads one file; the header is checked before any pixel is decoded.

    Args:
        stream: the file; is read from its start.
        acceptance: acceptance criteria.
        rules: `READING_RULES`, `SCORING_RULES` or `INTAKE_RULES`.
        largest_pixels: rows times columns; more are refused before any is decoded.
        most_inflated: bytes to which a deflated file may inflate.

    Returns:
        The radiograph, of which the first frame is decoded.

    Raises:
        RejectedFile: the header is not accepted, or header or pixels cannot be read; free of identity.
        OSError: the file cannot be read.
    """
    with quiet_pydicom():
        dataset = read_header(stream, most_inflated)
        header = Header(dataset)
        notes = check_acceptance(header, acceptance, (*rules, at_most(largest_pixels)))
        read_pixel_data(stream, dataset)
        syntax = transfer_syntax(dataset)
        pixels, assumed = stored_pixels(dataset, header, syntax)
        return render_radiograph(pixels, header, _uid_name(str(syntax)), acceptance, notes, assumed)


def render_radiograph(
    pixels: NDArray[np.unsignedinteger],
    header: Header,
    encoding: str,
    acceptance: AcceptanceConfig,
    notes: tuple[AcceptanceNote, ...] = (),
    assumed_tags: tuple[str, ...] = (),
) -> Radiograph:
    """Renders stored values by a header, and checks the picture.

    Args:
        pixels: (rows, columns) uint8 or uint16, bit patterns as stored.
        header: with the tags of the rendering.
        encoding: how the pixels were stored, for the provenance.
        acceptance: acceptance criteria.
        notes: of the acceptance rules.
        assumed_tags: what was assumed to decode them.

    Returns:
        The radiograph.

    Raises:
        RejectedFile: the modality LUT cannot be applied.
    """
    seen, shutter = visible_field(header, pixels.shape)
    if seen is None:
        lut = render(pixels, header)
        lut = replace(lut, assumed=(*lut.assumed, *filter(None, [shutter])))
    else:
        pixels, hidden = hide(pixels, seen)
        lut = render(pixels, header, hidden)
        lut = replace(lut, applied=(f"display shutter {shutter}", *lut.applied))
    turn = turn_by_header(header)
    if turn:
        pixels = turn(pixels)
        lut = replace(lut, applied=(f"turned: PatientOrientation {_directions(header)} to standard", *lut.applied))
    flags = [note.flag for note in notes if note.flag]
    if turn:
        flags.append(Flag.TURNED)
    small = downsample(lut.values.astype(np.float32).take(subsample(pixels), mode="clip"))
    score, likeness = polarity_score(small), frontal_score(small)
    view = find_view(header, acceptance.frontal_words, acceptance.lateral_words).view
    if score < NEGATIVE_BELOW:
        flags.append(Flag.POLARITY)
    elif likeness < FRONTAL_ABOVE and view not in (View.LATERAL, View.OTHER):
        flags.append(Flag.NOT_FRONTAL)
    if _contrast(lut) < _LOW_CONTRAST:
        flags.append(Flag.LOW_CONTRAST)
    if lut.clipped > _MOST_CLIPPED:
        flags.append(Flag.CLIPPED)
    assumed = (*(note.assumed for note in notes if note.assumed), *assumed_tags, *lut.assumed)
    provenance = Provenance(
        modality=header.code("Modality"),
        sop_class=_uid_name(header.text("SOPClassUID")),
        transfer_syntax=encoding,
        photometric=header.code("PhotometricInterpretation"),
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        bits_stored=header.integer("BitsStored") or 0,
        pixel_spacing=_spacing(header, turn),
        view=view.value,
        body_part=body_part_term(header, acceptance),
        manufacturer=manufacturer(header.text("Manufacturer")),
        model=OTHER if header.text("ManufacturerModelName") else "",
        polarity_score=round(score, 4),
        frontal_score=round(likeness, 4),
        applied=lut.applied,
        assumed=assumed,
        flags=tuple(flags),
    )
    return Radiograph(pixels, lut, provenance, header)


def correct_polarity(radiograph: Radiograph) -> Radiograph:
    """The inverted image of a radiograph whose picture contradicts its tags; the provenance records the correction."""
    provenance = radiograph.provenance
    lut = invert(radiograph.lut, "inverted by the picture check")
    flags = tuple(Flag.POLARITY_CORRECTED if flag is Flag.POLARITY else flag for flag in provenance.flags)
    return replace(radiograph, lut=lut, provenance=replace(provenance, applied=lut.applied, flags=flags))


def _contrast(lut: GrayscaleLUT) -> float:
    """The range of grey, in [0, 1], between the 1st and the 99th percentile of the image."""
    low, high = percentiles(lut, 1, 99)
    return high - low


def _spacing(header: Header, turn: Turn) -> float | None:
    """The row spacing of the image as it is shown."""
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        spacings = header.numbers(keyword)
        if spacings and spacings[0] > 0:
            return spacings[-1] if turn.transpose else spacings[0]
    return None


def _directions(header: Header) -> str:
    return "\\".join(text[:1].upper() for text in header.texts("PatientOrientation"))


def retain_device(radiograph: Radiograph) -> Radiograph:
    """The radiograph with manufacturer and model as its header has them, in the provenance (PS3.15, Annex E.3.8)."""
    header = radiograph.header
    maker, model = (header.text(keyword)[:_DEVICE_LENGTH] for keyword in ("Manufacturer", "ManufacturerModelName"))
    provenance = replace(
        radiograph.provenance,
        manufacturer=maker if maker.isprintable() else OTHER,
        model=model if model.isprintable() else OTHER,
    )
    return replace(radiograph, provenance=provenance)


def _uid_name(uid: str) -> str:
    """The standard's name of a UID; any other UID may be identifying and is not shown."""
    known = UID(uid, validation_mode=0)
    return known.name if known.name != uid else "(not shown)" if uid else ""
