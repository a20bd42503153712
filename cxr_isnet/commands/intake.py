"""`cxr-isnet intake`: a hospital's folder of DICOM files to a manifest without a person's identity."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from cxr_isnet import __version__
from cxr_isnet.errors import InputError
from cxr_isnet.files import atomic_write
from cxr_isnet.imaging.acceptance import AcceptanceConfig, Flag
from cxr_isnet.imaging.rejection import RejectionReason
from cxr_isnet.intake.discovery import Found, find_files
from cxr_isnet.intake.import_log import ImportLog
from cxr_isnet.intake.importer import (
    IMAGE_FOLDER,
    Candidate,
    Dates,
    ImageFormat,
    ImportConfig,
    Imported,
    Importer,
    PolarityAction,
    Rejected,
    Unwritable,
)
from cxr_isnet.intake.label_join import UNLABELLED, read_labels
from cxr_isnet.intake.process_pool import Failure, ProcessPool
from cxr_isnet.intake.pseudonyms import Pseudonyms, find_key
from cxr_isnet.intake.tables import MANIFEST, QUARANTINE, Tally, write_tables

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IntakeConfig:
    """A hospital's DICOM files to a manifest.

    Attributes:
        root: Folder to walk (zip archives in it are opened), or one file, archive or DICOMDIR.
        output: Folder for `manifest.csv`, `provenance.csv`, `quarantine.csv` and the images; outside root. A second run
            into it goes on where the first was.
        site: Name of the hospital, the manifest's column `site`.
        labels: CSV with `label` and one of `patient_id`, `accession`, `file` (path from root); null for none.
        label: Label of images that the table of labels does not name.
        licence: Terms of use, the manifest's column `licence`.
        format: `png`, rendered images of 16 bits; or `reference`, links to the DICOM files as they are.
        polarity: What happens to a picture that looks like a negative: `record` it, `quarantine` it, `correct` it.
        dates: `drop`, or `shift` by a secret number of days per patient.
        acceptance: What is let in.
        key_file: File with the secret for pseudonyms, at least 16 bytes; null for the variable CXR_ISNET_INTAKE_KEY, or
            a key that is made in `<output>.private`.
        workers: DistributedContext; null for one per core.
    """

    root: str
    output: str
    site: str = "unnamed"
    labels: str | None = None
    label: str = UNLABELLED
    licence: str = ""
    format: ImageFormat = ImageFormat.PNG
    polarity: PolarityAction = PolarityAction.RECORD
    dates: Dates = Dates.DROP
    acceptance: AcceptanceConfig = field(default_factory=AcceptanceConfig)
    key_file: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if not self.site.strip() or not self.label.strip():
            raise InputError(f"site is {self.site!r} and label {self.label!r}: neither may be empty")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}: at least 1 is needed")
        if self.format is ImageFormat.REFERENCE and self.polarity is PolarityAction.CORRECT:
            raise InputError("polarity 'correct' changes pixels, format 'reference' keeps the file: use format 'png'")


def intake(config: IntakeConfig) -> str:
    """Takes in a folder; returns what was taken, refused and flagged, and where it is."""
    root, output = Path(config.root), Path(config.output)
    _check_places(root, output)
    output.mkdir(parents=True, exist_ok=True)
    private = _private_folder(output)
    pseudonyms = find_key(config.key_file, private)
    labels = read_labels(config.labels, config.label, pseudonyms)
    importing = ImportConfig(output, config.format, config.polarity, config.dates, config.acceptance, pseudonyms)
    with ImportLog(output) as log:
        log.agree(_settings(importing))
        _remove_partial_files(output, private)
        with _names_file(private / "files.csv", pseudonyms) as named:
            _take_in(root, importing, log, named, config.workers or os.cpu_count() or 1)
        constants = {"site": config.site, "licence": config.licence}
        tally = write_tables(log, output, labels, constants, config.dates is Dates.SHIFT)
    return _summary(tally, output, private)


def _check_places(root: Path, output: Path) -> None:
    if not root.exists():
        raise InputError(f"root '{root}' is neither a folder nor a file. Correct the path")
    if root.is_dir() and output.resolve().is_relative_to(root.resolve()):
        raise InputError(f"output '{output}' lies in root '{root}', and would be taken in itself. Name another folder")
    if output.exists() and not output.is_dir():
        raise InputError(f"output '{output}' is a file. Name a folder")


def _private_folder(output: Path) -> Path:
    """Beside the output, for its owner only: the key, and which pseudonym is which file."""
    private = output.resolve().with_name(f"{output.resolve().name}.private")
    private.mkdir(mode=0o700, exist_ok=True)
    return private


def _settings(config: ImportConfig) -> dict[str, str]:
    """What decides on the outcome of a file: it cannot change in the middle."""
    return {
        "format": config.format.value,
        "polarity": config.polarity.value,
        "dates": config.dates.value,
        "acceptance": json.dumps(asdict(config.acceptance), sort_keys=True),
        "key": config.pseudonyms.of("key", ""),
        "version of cxr-isnet": __version__,
    }


def _remove_partial_files(output: Path, private: Path) -> None:
    """What a killed run was writing."""
    for folder, pattern in (
        (output / IMAGE_FOLDER, "*/.*.partial.*"),
        (output, ".*.partial.csv"),
        (private, ".*.partial.csv"),
    ):
        for partial in folder.glob(pattern):
            partial.unlink()


@contextmanager
def _names_file(path: Path, pseudonyms: Pseudonyms) -> Iterator[Callable[[Found], str]]:
    """The private table from pseudonyms to the names of files; yields the function that adds a file to it."""
    with (
        atomic_write(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file_id", "file"))

        def add(found: Found) -> str:
            file_id = pseudonyms.of("file", found.name)
            writer.writerow((file_id, found.name))
            return file_id

        yield add


def _take_in(root: Path, config: ImportConfig, log: ImportLog, named: Callable[[Found], str], workers: int) -> None:
    total = sum(1 for _ in find_files(root))
    with tqdm(total=total, desc="intake", unit="file", disable=None) as bar:
        candidates = _candidates(root, config.output, log, named, bar)
        with ProcessPool[Candidate, Imported | Rejected | Unwritable](Importer(config), workers) as pool:
            for candidate, outcome in pool.results(candidates):
                if isinstance(outcome, Unwritable):
                    raise InputError(f"{outcome.detail}. Make room or correct the permissions; run again to go on")
                if isinstance(outcome, Failure):
                    logger.error("file %s: %s", candidate.file_id, outcome.detail)
                    outcome = Rejected(RejectionReason.CRASHED, outcome.detail)
                log.enter(candidate.file_id, candidate.stamp, outcome)
                bar.update()


def _candidates(
    root: Path, output: Path, log: ImportLog, named: Callable[[Found], str], bar: tqdm[None]
) -> Iterator[Candidate]:
    """The files that have to be opened; all others are dealt with on the way."""
    for found in find_files(root):
        file_id = named(found)
        known = log.meet(file_id)
        if found.refusal is not None:
            log.enter(file_id, found.stamp, Rejected(found.refusal.reason, found.refusal.detail))
        elif known is None or known[0] != found.stamp or not (output / known[1]).exists():
            yield Candidate(file_id, found.path, found.member, found.stamp)
            continue
        bar.update()


def _summary(tally: Tally, output: Path, private: Path) -> str:
    refused = sum(tally.refused.values())
    lines = [f"{tally.accepted} images of {tally.patients} patients taken, {refused} files refused"]
    for title, counts in (("label", tally.labels), ("refused", tally.refused), ("flagged", tally.flags)):
        lines += [f"  {title} {name}: {count}" for name, count in sorted(counts.items())]
    if tally.flags[Flag.POLARITY.value]:
        lines.append(
            "  those flagged 'polarity' look like negatives: see them; polarity 'correct' or 'quarantine' acts"
        )
    lines.append(f"{output / MANIFEST}, {output / QUARANTINE}; who is who, not to be passed on: {private}")
    return "\n".join(lines)
