"""One found file to one outcome: an image in the output with its rows, or a refusal."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from cxr_isnet.config import spell_by_value
from cxr_isnet.files import atomic_write
from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig, Flag
from cxr_isnet.imaging.dicom import Radiograph, read_radiograph, with_polarity_corrected
from cxr_isnet.imaging.png import encode_png
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason
from cxr_isnet.intake.pseudonyms import Pseudonyms, age_in_years, sex

IMAGE_FOLDER = "images"


class ImageFormat(Enum):
    """What the manifest points to.

    PNG: the rendered image, 16 bits, without a header. REFERENCE: a link, under a name that says nothing, to the DICOM
    file as it is.
    """

    PNG = "png"
    REFERENCE = "reference"


class PolarityAction(Enum):
    """What happens to a file whose picture looks like a negative after its tags were obeyed."""

    RECORD = "record"
    QUARANTINE = "quarantine"
    CORRECT = "correct"


class Dates(Enum):
    """What the manifest tells of the day of the study: nothing, or a day moved by a secret number per patient."""

    DROP = "drop"
    SHIFT = "shift"


spell_by_value(ImageFormat, PolarityAction, Dates)


@dataclass(frozen=True)
class ImportConfig:
    """How every file of an intake is treated.

    Attributes:
        output: folder of the manifest; images go below it.
        format: PNG or reference.
        polarity: what happens to a suspected negative.
        dates: drop or shift.
        acceptance: what is let in.
        pseudonyms: with the intake's key.
    """

    output: Path
    format: ImageFormat
    polarity: PolarityAction
    dates: Dates
    acceptance: AcceptanceConfig
    pseudonyms: Pseudonyms


@dataclass(frozen=True)
class Candidate:
    """A file to be opened.

    Attributes:
        file_id: pseudonym of its name.
        path: of the file or of the archive.
        member: position in the archive; None for a plain file.
        stamp: changes when the content does.
    """

    file_id: str
    path: Path
    member: int | None
    stamp: str


@dataclass(frozen=True)
class Imported:
    """A file that was taken.

    Attributes:
        image: path of the image from the output folder.
        patient: pseudonym of PatientID.
        accession: pseudonym of AccessionNumber, "" where there is none.
        content: pseudonym of the file's SHA-256.
        instance: pseudonym of SOPInstanceUID, "" where there is none.
        manifest: cells of the manifest's row that come from the file.
        provenance: cells of the row of `provenance.csv`.
        flags: what a person should look at.
    """

    image: str
    patient: str
    accession: str
    content: str
    instance: str
    manifest: dict[str, Any]
    provenance: dict[str, Any]
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Rejected:
    """A file that was not taken, and why."""

    reason: RejectionReason
    detail: str


@dataclass(frozen=True)
class Unwritable:
    """The output cannot be written to, which is no fault of the file: the intake has to stop."""

    detail: str


class _WriteError(Exception):
    """An image could not be written."""


@dataclass(frozen=True)
class Importer:
    """The function that a pool applies to candidates."""

    config: ImportConfig

    def __call__(self, candidate: Candidate) -> Imported | Rejected | Unwritable:
        """Read, check, and write the image.

        Args:
            candidate: the file.
        """
        try:
            radiograph, content = self._read(candidate)
            return self._admit(radiograph, candidate, content)
        except RejectedFile as refusal:
            return Rejected(refusal.reason, refusal.detail)
        except _WriteError as error:
            return Unwritable(str(error))

    def _read(self, candidate: Candidate) -> tuple[Radiograph, str]:
        """The radiograph and the SHA-256 of its file."""
        try:
            with _opened(candidate) as stream:
                radiograph = read_radiograph(stream, self.config.acceptance, INTAKE_RULES)
                stream.seek(0)
                content = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise RejectedFile.unreadable(error) from error
        return self._settled(radiograph), content

    def _settled(self, radiograph: Radiograph) -> Radiograph:
        """What the setting asks for a suspected negative."""
        score = radiograph.provenance.polarity_score
        if Flag.POLARITY not in radiograph.provenance.flags or self.config.polarity is PolarityAction.RECORD:
            return radiograph
        if self.config.polarity is PolarityAction.CORRECT:
            return with_polarity_corrected(radiograph)
        tag = radiograph.provenance.photometric
        raise RejectedFile(
            RejectionReason.POLARITY,
            f"looks like a negative (score {score:g}) though PhotometricInterpretation (0028,0004) {tag!r} was obeyed. "
            "Correct the tag, or take it with polarity 'correct'",
        )

    def _admit(self, radiograph: Radiograph, candidate: Candidate, content: str) -> Imported:
        header, record, pseudonyms = radiograph.header, radiograph.provenance, self.config.pseudonyms
        patient = header.text("PatientID")
        name = pseudonyms.of("content", content)
        image, digest = self._write(radiograph, candidate, name, content)
        years = age_in_years(header)
        cells: dict[str, Any] = {
            "view": record.view,
            "sex": sex(header),
            "age": "" if years is None else f"{years:g}",
            "body_part": record.body_part,
            "device": " ".join(filter(None, (record.manufacturer, record.model))),
            "sha256": digest,
        }
        if self.config.dates is Dates.SHIFT:
            cells["study_date"] = pseudonyms.shifted(header.text("StudyDate"), patient)
        accession, instance = header.text("AccessionNumber"), header.text("SOPInstanceUID")
        return Imported(
            image=image,
            patient=pseudonyms.of("patient", patient),
            accession=pseudonyms.of("accession", accession) if accession else "",
            content=name,
            instance=pseudonyms.of("instance", instance) if instance else "",
            manifest=cells,
            provenance=record.cells(),
            flags=tuple(flag.value for flag in record.flags),
        )

    def _write(self, radiograph: Radiograph, candidate: Candidate, name: str, content: str) -> tuple[str, str]:
        """The image's path from the output folder, and its SHA-256. Equal files share an image."""
        by_reference = self.config.format is ImageFormat.REFERENCE
        if by_reference and candidate.member is not None:
            raise RejectedFile(
                RejectionReason.ARCHIVE, "a member of an archive cannot be referred to. Unpack it, or use format 'png'"
            )
        image = f"{IMAGE_FOLDER}/{name[:2]}/{name}.{'dcm' if by_reference else 'png'}"
        target = self.config.output / image
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as partial:
                if by_reference:
                    os.symlink(candidate.path.resolve(), partial)
                    return image, content
                return image, _write_png(radiograph, partial)
        except OSError as error:
            raise _WriteError(f"{target.parent}: {error.strerror}") from error


def _write_png(radiograph: Radiograph, path: Path) -> str:
    """The SHA-256 of what was written."""
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for piece in encode_png(radiograph.pixels.shape, radiograph.sixteen_bit()):
            digest.update(piece)
            stream.write(piece)
    return digest.hexdigest()


@contextmanager
def _opened(candidate: Candidate) -> Iterator[BinaryIO]:
    if candidate.member is None:
        with candidate.path.open("rb") as stream:
            yield stream
        return
    try:
        with zipfile.ZipFile(candidate.path) as archive:
            content = archive.read(archive.infolist()[candidate.member])
    except (NotImplementedError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RejectedFile(
            RejectionReason.ARCHIVE,
            f"the member of the archive does not unpack ({type(error).__name__}). Copy the archive anew",
        ) from error
    yield io.BytesIO(content)
