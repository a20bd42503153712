"""`cxr-isnet intake`: a hospital's folder of DICOM files to a de-identified manifest."""

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
from cxr_isnet.files import atomic_write, exclusive
from cxr_isnet.imaging import AcceptanceConfig, Flag, RejectionReason
from cxr_isnet.intake import (
    IMAGE_FOLDER,
    MANIFEST,
    QUARANTINE,
    UNLABELLED,
    Candidate,
    DateAction,
    FoundFile,
    ImageFormat,
    ImportConfig,
    Imported,
    Importer,
    ImportLog,
    IntakeCounts,
    PolarityAction,
    ProcessPool,
    Pseudonyms,
    Rejected,
    TaskFailure,
    UnwritableOutput,
    find_files,
    load_pseudonyms,
    read_label_table,
    write_tables,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IntakeConfig:
    """De-identified import of a hospital's DICOM files.

    Attributes:
        root: Folder to walk (zip archives in it are opened), or one file, archive or DICOMDIR.
        output: Folder for `manifest.csv`, `provenance.csv`, `quarantine.csv` and the images; outside root. A second run
            into it resumes the first.
        site: Name of the hospital, the manifest's column `site`.
        labels: CSV with `label` and one of `patient_id`, `accession`, `file` (path from root); null for none.
        label: Label of images that the table of labels does not name.
        licence: Terms of use, the manifest's column `licence`.
        format: `png`, rendered images of 16 bits; or `reference`, links to the DICOM files as they are.
        polarity: What happens to an image that looks like a negative: `record` it, `quarantine` it, `correct` it.
        dates: `drop`, or `shift` by a secret number of days per patient.
        acceptance: Acceptance criteria.
        key_file: File with the secret for pseudonyms, at least 16 bytes; null for the variable CXR_ISNET_INTAKE_KEY, or
            a key that is generated in `<output>.private`.
        workers: Worker processes; null for one per core.
    """

    root: str
    output: str
    site: str = "unnamed"
    labels: str | None = None
    label: str = UNLABELLED
    licence: str = ""
    format: ImageFormat = ImageFormat.PNG
    polarity: PolarityAction = PolarityAction.RECORD
    dates: DateAction = DateAction.DROP
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
    """Imports a folder.

    Returns:
        The counts of accepted, rejected and flagged files, and where the tables are, as text.

    Raises:
        InputError: a path or a table of labels is wrong, the output holds an intake with other settings, or it cannot
            be written to.
    """
    root, output = Path(config.root), Path(config.output)
    _check_paths(root, output)
    output.mkdir(parents=True, exist_ok=True)
    private = _private_folder(output)
    with exclusive(output):
        return _intake(config, root, output, private)


def _intake(config: IntakeConfig, root: Path, output: Path, private: Path) -> str:
    pseudonyms = load_pseudonyms(config.key_file, private)
    labels = read_label_table(config.labels, config.label, pseudonyms)
    import_config = ImportConfig(output, config.format, config.polarity, config.dates, config.acceptance, pseudonyms)
    with ImportLog(output) as log:
        log.check_settings(_settings(import_config))
        _remove_partial_files(output, private)
        with _file_names(private / "files.csv", pseudonyms) as file_id_of:
            _import_files(root, import_config, log, file_id_of, config.workers or os.cpu_count() or 1)
        constants = {"site": config.site, "licence": config.licence}
        counts = write_tables(log, output, labels, constants, config.dates is DateAction.SHIFT)
    return _summary(counts, output, private)


def _check_paths(root: Path, output: Path) -> None:
    if not root.exists():
        raise InputError(f"root '{root}' is neither a folder nor a file. Correct the path")
    if root.is_dir() and output.resolve().is_relative_to(root.resolve()):
        raise InputError(f"output '{output}' lies in root '{root}', and would be imported itself. Name another folder")
    if output.exists() and not output.is_dir():
        raise InputError(f"output '{output}' is a file. Name a folder")


def _private_folder(output: Path) -> Path:
    """Creates the folder beside the output, for its owner only, of the key and of the names of the files."""
    private = output.resolve().with_name(f"{output.resolve().name}.private")
    private.mkdir(mode=0o700, exist_ok=True)
    return private


def _settings(config: ImportConfig) -> dict[str, str]:
    """The settings that the outcome of a file depends on; they cannot change when an intake is resumed."""
    return {
        "format": config.format.value,
        "polarity": config.polarity.value,
        "dates": config.dates.value,
        "acceptance": json.dumps(asdict(config.acceptance), sort_keys=True),
        "key": config.pseudonyms.of("key", ""),
        "version of cxr-isnet": __version__,
    }


def _remove_partial_files(output: Path, private: Path) -> None:
    """Removes what a killed run was writing."""
    for folder, pattern in (
        (output / IMAGE_FOLDER, "*/.*.partial.*"),
        (output, ".*.partial.csv"),
        (private, ".*.partial.csv"),
    ):
        for partial in folder.glob(pattern):
            partial.unlink()


@contextmanager
def _file_names(path: Path, pseudonyms: Pseudonyms) -> Iterator[Callable[[FoundFile], str]]:
    """Writes the private table of pseudonyms and file names; yields the function that adds a file and gives its id."""
    with (
        atomic_write(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file_id", "file"))

        def add(found: FoundFile) -> str:
            file_id = pseudonyms.of("file", found.name)
            writer.writerow((file_id, found.name))
            return file_id

        yield add


def _import_files(
    root: Path, config: ImportConfig, log: ImportLog, file_id_of: Callable[[FoundFile], str], workers: int
) -> None:
    total = sum(1 for _ in find_files(root))
    with tqdm(total=total, desc="intake", unit="file", disable=None) as bar:
        candidates = _candidates(root, config.output, log, file_id_of, bar)
        with ProcessPool[Candidate, Imported | Rejected | UnwritableOutput](Importer(config), workers) as pool:
            for candidate, outcome in pool.results(candidates):
                if isinstance(outcome, UnwritableOutput):
                    raise InputError(
                        f"{outcome.detail}. Free some space or correct the permissions; run again to resume"
                    )
                if isinstance(outcome, TaskFailure):
                    logger.error("file %s: %s", candidate.file_id, outcome.detail)
                    outcome = Rejected(RejectionReason.CRASHED, outcome.detail)
                log.record(candidate.file_id, candidate.stamp, outcome)
                bar.update()


def _candidates(
    root: Path, output: Path, log: ImportLog, file_id_of: Callable[[FoundFile], str], bar: tqdm[None]
) -> Iterator[Candidate]:
    """Yields the files to import; records those that are rejected unopened and skips those imported before."""
    for found in find_files(root):
        file_id = file_id_of(found)
        earlier = log.mark_seen(file_id)
        if found.rejection is not None:
            log.record(file_id, found.stamp, Rejected(found.rejection.reason, found.rejection.detail))
        elif earlier is None or earlier[0] != found.stamp or not (output / earlier[1]).exists():
            yield Candidate(file_id, found.path, found.member, found.stamp)
            continue
        bar.update()


def _summary(counts: IntakeCounts, output: Path, private: Path) -> str:
    rejected = sum(counts.rejected.values())
    lines = [f"{counts.accepted} images of {counts.patients} patients accepted, {rejected} files rejected"]
    for title, by_name in (("label", counts.labels), ("rejected", counts.rejected), ("flagged", counts.flags)):
        lines += [f"  {title} {name}: {count}" for name, count in sorted(by_name.items())]
    if counts.flags[Flag.POLARITY.value]:
        lines.append(
            "  images flagged 'polarity' look like negatives: review them, or set polarity to 'correct' or 'quarantine'"
        )
    lines.append(f"{output / MANIFEST}, {output / QUARANTINE}; key and file names, not to be shared: {private}")
    return "\n".join(lines)
