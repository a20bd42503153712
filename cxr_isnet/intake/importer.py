"""The import of one file: an image in the output with its rows in the tables, or a rejection."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from cxr_isnet.config import spell_by_value
from cxr_isnet.errors import InputError
from cxr_isnet.files import atomic_write, unwritable
from cxr_isnet.imaging import (
    INTAKE_RULES,
    AcceptanceConfig,
    Flag,
    Radiograph,
    RejectedFile,
    RejectionReason,
    correct_polarity,
    open_header,
    read_radiograph,
    retain_device,
    sex,
)
from cxr_isnet.intake.archives import ArchiveReader
from cxr_isnet.intake.discovery import Rejected
from cxr_isnet.intake.pseudonyms import Pseudonyms, is_placeholder, patient_age

IMAGE_FOLDER = "images"


class ImageFormat(Enum):
    """What the manifest's column `image` names.

    PNG: the rendered image in 16 bits, without a header. REFERENCE: a symbolic link with a pseudonym for a name to the
    original DICOM file.
    """

    PNG = "png"
    REFERENCE = "reference"


class PolarityAction(Enum):
    """What happens to a file whose image, rendered by its tags, looks like a negative."""

    RECORD = "record"
    QUARANTINE = "quarantine"
    CORRECT = "correct"


class DateAction(Enum):
    """What the manifest holds of the study date: nothing, or a date shifted by a secret number of days per patient."""

    DROP = "drop"
    SHIFT = "shift"


spell_by_value(ImageFormat, PolarityAction, DateAction)


@dataclass(frozen=True)
class FileLimits:
    """What one file may cost, so that a damaged or hostile one takes neither the memory nor the time of the others.

    Attributes:
        megabytes: Size of a file, of an archive's member when it is unpacked, of a deflated file when it is inflated.
        megapixels: Rows times columns.
        seconds: Time from opening to the written image.
    """

    megabytes: int = 256
    megapixels: int = 64
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if not (self.megabytes > 0 and self.megapixels > 0 and self.seconds > 0):
            raise InputError(f"limits are {self}: all must be above 0")

    @property
    def bytes(self) -> int:
        """Of a file."""
        return self.megabytes * 10**6

    @property
    def memory(self) -> int:
        """Bytes that a worker may allocate."""
        return max(2**30, 4 * self.bytes)


@dataclass(frozen=True)
class ImportConfig:
    """Settings of the import of every file.

    Attributes:
        output: folder of the manifest; images are written below it.
        format: PNG or reference.
        polarity: what happens to a suspected negative.
        dates: drop or shift.
        acceptance: acceptance criteria.
        pseudonyms: with the intake's key.
        limits: of each file.
        keep_device: whether the tables have manufacturer and model as the files have them.
    """

    output: Path
    format: ImageFormat
    polarity: PolarityAction
    dates: DateAction
    acceptance: AcceptanceConfig
    pseudonyms: Pseudonyms
    limits: FileLimits = field(default_factory=FileLimits)
    keep_device: bool = False


@dataclass(frozen=True)
class Candidate:
    """A file to import.

    Attributes:
        file_id: pseudonym of its name.
        path: of the file or of the archive.
        member: index in the archive's list of members; None for a plain file.
        stamp: as in `FoundFile`.
    """

    file_id: str
    path: Path
    member: int | None
    stamp: str


@dataclass(frozen=True)
class Imported:
    """The outcome of an accepted file.

    Attributes:
        image: path of the image, relative to the output folder.
        patient: pseudonym of PatientID.
        accession: pseudonym of AccessionNumber, "" where there is none.
        content: pseudonym of the file's SHA-256.
        instance: pseudonym of SOPInstanceUID, "" where there is none.
        study: pseudonym of StudyInstanceUID, "" where there is none.
        birth: pseudonym of PatientBirthDate, "" where there is none.
        manifest: cells of the manifest's row that come from the file.
        provenance: cells of the row of `provenance.csv`.
        flags: reasons for manual review.
    """

    image: str
    patient: str
    accession: str
    content: str
    instance: str
    study: str
    birth: str
    manifest: dict[str, Any]
    provenance: dict[str, Any]
    flags: tuple[str, ...]


@dataclass(frozen=True)
class UnwritableOutput:
    """The output folder cannot be written to, whatever the file: the intake has to stop.

    Attributes:
        detail: the folder and the error.
    """

    detail: str


class _WriteError(Exception):
    """An image could not be written."""


@dataclass(frozen=True)
class Importer:
    """The function that a pool of processes applies to candidates.

    Attributes:
        config: settings of the import.
        archives: opens the archives that members are in.
    """

    config: ImportConfig
    archives: ArchiveReader = field(default_factory=ArchiveReader, compare=False)

    def __call__(self, candidate: Candidate) -> Imported | Rejected | UnwritableOutput:
        """Reads and checks a file and writes its image.

        Args:
            candidate: the file.

        Returns:
            The outcome; errors of the file or of the output are outcomes too.

        Raises:
            MemoryError: the file needs more than there is.
        """
        try:
            radiograph, file_sha256 = self._read(candidate)
            return self._import(radiograph, candidate, file_sha256)
        except RejectedFile as rejected:
            if isinstance(rejected.__cause__, MemoryError):
                raise rejected.__cause__ from None
            return Rejected.of(rejected)
        except _WriteError as error:
            return UnwritableOutput(str(error))

    def identifier(self, candidate: Candidate, keyword: str) -> str:
        """An identifier of the header of an accepted file, "" where it can no longer be read; not to be stored."""
        try:
            with self._open(candidate) as stream, open_header(stream) as header:
                return header.identifier(keyword)
        except (OSError, RejectedFile):
            return ""

    def _read(self, candidate: Candidate) -> tuple[Radiograph, str]:
        """The radiograph and the SHA-256 of its file."""
        try:
            with self._open(candidate) as stream:
                radiograph = read_radiograph(
                    stream,
                    self.config.acceptance,
                    INTAKE_RULES,
                    largest_pixels=self.config.limits.megapixels * 10**6,
                    most_inflated=self.config.limits.bytes,
                )
                stream.seek(0)
                file_sha256 = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise RejectedFile.unreadable(error) from error
        radiograph = retain_device(radiograph) if self.config.keep_device else radiograph
        return self._resolve_polarity(radiograph), file_sha256

    @contextmanager
    def _open(self, candidate: Candidate) -> Iterator[BinaryIO]:
        most = self.config.limits.bytes
        if candidate.member is not None:
            yield io.BytesIO(self.archives.read(candidate.path, candidate.member, most))
            return
        with candidate.path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > most:
                raise RejectedFile(
                    RejectionReason.LIMIT, f"a file of {size} bytes, more than {most}. Raise limits.megabytes"
                )
            yield stream

    def _resolve_polarity(self, radiograph: Radiograph) -> Radiograph:
        """Handles a suspected negative as the setting `polarity` says."""
        score = radiograph.provenance.polarity_score
        if Flag.POLARITY not in radiograph.provenance.flags or self.config.polarity is PolarityAction.RECORD:
            return radiograph
        if self.config.polarity is PolarityAction.CORRECT:
            return correct_polarity(radiograph)
        tag = radiograph.provenance.photometric
        raise RejectedFile(
            RejectionReason.POLARITY,
            f"looks like a negative (score {score:g}) though PhotometricInterpretation (0028,0004) {tag!r} was "
            "applied. Correct the tag, or import it with polarity 'correct'",
        )

    def _import(self, radiograph: Radiograph, candidate: Candidate, file_sha256: str) -> Imported:
        """Writes the image of an accepted file and collects the cells of its rows."""
        header, provenance, pseudonyms = radiograph.header, radiograph.provenance, self.config.pseudonyms
        patient = header.identifier("PatientID")
        content = pseudonyms.of("content", file_sha256)
        image, image_sha256 = self._write(radiograph, candidate, content)
        age = patient_age(header)
        cells: dict[str, Any] = {
            "view": provenance.view,
            "sex": sex(header.text("PatientSex")),
            "age": "" if age is None else f"{age:g}",
            "body_part": provenance.body_part,
            "device": " ".join(dict.fromkeys(filter(None, (provenance.manufacturer, provenance.model)))),
            "sha256": image_sha256,
        }
        if self.config.dates is DateAction.SHIFT:
            cells["study_date"] = pseudonyms.shift_date(header.text("StudyDate"), patient)
        flags = [flag.value for flag in provenance.flags]
        if is_placeholder(patient):
            flags.append(Flag.PLACEHOLDER_PATIENT.value)

        def pseudonym(kind: str, keyword: str) -> str:
            value = header.identifier(keyword)
            return pseudonyms.of(kind, value) if value else ""

        return Imported(
            image=image,
            patient=pseudonyms.of("patient", patient),
            accession=pseudonym("accession", "AccessionNumber"),
            content=content,
            instance=pseudonym("instance", "SOPInstanceUID"),
            study=pseudonym("study", "StudyInstanceUID"),
            birth=pseudonym("birth", "PatientBirthDate"),
            manifest=cells,
            provenance=provenance.cells(),
            flags=tuple(flags),
        )

    def _write(self, radiograph: Radiograph, candidate: Candidate, content: str) -> tuple[str, str]:
        """Writes the image; returns its path relative to the output and its SHA-256, "" of a link."""
        by_reference = self.config.format is ImageFormat.REFERENCE
        if by_reference and candidate.member is not None:
            raise RejectedFile(
                RejectionReason.ARCHIVE, "a member of an archive cannot be linked to. Unpack it, or use format 'png'"
            )
        image = f"{IMAGE_FOLDER}/{content[:2]}/{content}.{'dcm' if by_reference else 'png'}"
        target = self.config.output / image
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as partial:
                if by_reference:
                    os.symlink(candidate.path.resolve(), partial)
                    return image, ""  # the digest of an identified file would name its row to whoever has the file
                return image, radiograph.write_png(partial)
        except OSError as error:
            raise _WriteError(str(unwritable(target.parent, error))) from error
        except InputError as error:
            raise _WriteError(str(error)) from error
