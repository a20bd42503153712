"""One DICOM radiograph: header, acceptance, pixels, rendering, picture check, and the record of it all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from cxr_isnet.imaging.acceptance import READING_RULES, AcceptanceConfig, Finding, Flag, Rule, check_acceptance
from cxr_isnet.imaging.decoding import stored_pixels, transfer_syntax
from cxr_isnet.imaging.grayscale import GreyTable, inverted, percentiles, render, sampled
from cxr_isnet.imaging.header import PREAMBLE, Header, quiet_pydicom, read_header, read_pixel_data, starts_like_dicom
from cxr_isnet.imaging.polarity import NEGATIVE_BELOW, polarity_score
from cxr_isnet.imaging.provenance import Provenance
from cxr_isnet.imaging.rejection import RejectedFile
from cxr_isnet.imaging.views import find_view

Grey = TypeVar("Grey", bound=np.generic)

_LOW_CONTRAST = 0.1
_ROWS_AT_A_TIME = 32
_DEVICE_LENGTH = 64  # of a value of VR LO (PS3.5, 6.2)


@dataclass(frozen=True)
class Radiograph:
    """A decoded radiograph with the table that renders it.

    Attributes:
        pixels: (rows, columns) uint8 or uint16, bit patterns as stored.
        table: `table.values[pixels]` is the image in [0, 1]; bright is dense.
        provenance: what was read, applied and assumed.
        header: all tags; holds the patient's identity.
    """

    pixels: NDArray[np.unsignedinteger]
    table: GreyTable
    provenance: Provenance
    header: Header = field(repr=False)

    def image(self) -> NDArray[np.float32]:
        """The image, (rows, columns) in [0, 1]."""
        return np.concatenate(list(_looked_up(self.table.values.astype(np.float32), self.pixels)))

    def sixteen_bit(self) -> Iterator[NDArray[np.uint16]]:
        """The image from 0 to 65535, some rows of all columns at a time, in big endian, as PNG stores it."""
        return _looked_up(np.rint(self.table.values * 65535).astype(">u2"), self.pixels)


def _looked_up(table: NDArray[Grey], pixels: NDArray[np.unsignedinteger]) -> Iterator[NDArray[Grey]]:
    """`table[pixels]`, some rows at a time, which stay in the cache."""
    for top in range(0, len(pixels), _ROWS_AT_A_TIME):
        yield table.take(pixels[top : top + _ROWS_AT_A_TIME], mode="clip")  # every pixel has its place: none is clipped


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM by its content, whatever its name."""
    try:
        with path.open("rb") as stream:
            return starts_like_dicom(stream.read(PREAMBLE + 4))
    except OSError:
        return False


def read_dicom(path: Path) -> NDArray[np.float32]:
    """Read one radiograph that a manifest names.

    Args:
        path: a DICOM file of modality CR, DX or DR with one frame, for presentation.

    Returns:
        (rows, columns) in [0, 1]; bright is dense.

    Raises:
        InputError: names the file and the tag that stands in the way.
    """
    try:
        with path.open("rb") as stream:
            return read_radiograph(stream, AcceptanceConfig(), READING_RULES).image()
    except OSError as error:
        raise RejectedFile.unreadable(error, place=str(path)) from error
    except RejectedFile as refusal:
        raise refusal.at(str(path)) from refusal


def read_radiograph(stream: BinaryIO, acceptance: AcceptanceConfig, rules: tuple[Rule, ...]) -> Radiograph:
    """Read one file: header and acceptance before the pixels are touched.

    Args:
        stream: the file; is read from its start.
        acceptance: what is let in.
        rules: of the acceptance.

    Raises:
        RejectedFile: whatever stands in the way.
        OSError: the file cannot be read.
    """
    with quiet_pydicom():
        dataset = read_header(stream)
        header = Header(dataset)
        findings = check_acceptance(header, acceptance, rules)
        read_pixel_data(stream, dataset)
        syntax = transfer_syntax(dataset)
        pixels, filled_in = stored_pixels(dataset, header, syntax)
        table = render(pixels, header)
        return _recorded(pixels, table, header, findings, filled_in, syntax)


def _recorded(
    pixels: NDArray[np.unsignedinteger],
    table: GreyTable,
    header: Header,
    findings: tuple[Finding, ...],
    filled_in: tuple[str, ...],
    syntax: UID,
) -> Radiograph:
    flags = [finding.flag for finding in findings if finding.flag]
    score = polarity_score(table.values[sampled(pixels)])
    if score < NEGATIVE_BELOW:
        flags.append(Flag.POLARITY)
    if _contrast(table) < _LOW_CONTRAST:
        flags.append(Flag.LOW_CONTRAST)
    assumed = (*(finding.assumed for finding in findings if finding.assumed), *filled_in, *table.assumed)
    provenance = Provenance(
        modality=header.code("Modality"),
        sop_class=_uid_name(header.text("SOPClassUID")),
        transfer_syntax=_uid_name(str(syntax)),
        photometric=header.code("PhotometricInterpretation"),
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        bits_stored=header.integer("BitsStored") or 0,
        pixel_spacing=_spacing(header),
        view=find_view(header)[0].value,
        body_part=header.code("BodyPartExamined"),
        manufacturer=_device(header, "Manufacturer"),
        model=_device(header, "ManufacturerModelName"),
        polarity_score=round(score, 4),
        applied=table.applied,
        assumed=assumed,
        flags=tuple(flags),
    )
    return Radiograph(pixels, table, provenance, header)


def with_polarity_corrected(radiograph: Radiograph) -> Radiograph:
    """The negative of a radiograph whose picture contradicts its tags, recorded as such."""
    provenance = radiograph.provenance
    table = inverted(radiograph.table, "inverted by the picture check")
    flags = tuple(Flag.POLARITY_CORRECTED if flag is Flag.POLARITY else flag for flag in provenance.flags)
    return replace(radiograph, table=table, provenance=replace(provenance, applied=table.applied, flags=flags))


def _contrast(table: GreyTable) -> float:
    """Span of grey between the 1st and the 99th percentile of the picture."""
    low, high = percentiles(table, 1, 99)
    return high - low


def _spacing(header: Header) -> float | None:
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        spacing = header.number(keyword)
        if spacing is not None and spacing > 0:
            return spacing
    return None


def _device(header: Header, keyword: str) -> str:
    text = header.text(keyword)[:_DEVICE_LENGTH]
    return text if text.isprintable() else ""


def _uid_name(uid: str) -> str:
    """The standard's name of a UID; one that it does not know is not shown."""
    known = UID(uid, validation_mode=0)
    return known.name if known.name != uid else "(not shown)" if uid else ""
