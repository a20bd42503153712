"""`cxr-isnet intake`: a hospital's folder of DICOM files to a de-identified manifest."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from cxr_isnet import __version__
from cxr_isnet.errors import InputError
from cxr_isnet.files import exclusive, is_empty, remove_partial_files, unwritable
from cxr_isnet.imaging import AcceptanceConfig, Flag
from cxr_isnet.intake import (
    IMAGE_FOLDER,
    KEYWORDS,
    MANIFEST,
    QUARANTINE,
    UNLABELLED,
    Candidate,
    DateAction,
    FileLimits,
    FoundFile,
    ImageFormat,
    ImportConfig,
    Imported,
    Importer,
    ImportLog,
    IntakeCounts,
    Inventory,
    JoinedLabels,
    PolarityAction,
    ProcessPool,
    Rejected,
    TaskFailure,
    UnwritableOutput,
    holds_import_log,
    load_pseudonyms,
    private_folder,
    read_label_table,
    resolved_root,
    take_inventory,
    write_readme,
    write_tables,
)

logger = logging.getLogger(__name__)

UNJOINED = "unjoined_labels.csv"
_ADVICE = {
    Flag.POLARITY: "'polarity': look like negatives; review them, or set polarity to 'correct' or 'quarantine'",
    Flag.PLACEHOLDER_PATIENT: "'placeholder_patient': PatientID stands for nobody, so that several patients count as "
    "one; export pseudonyms, one for each patient",
    Flag.MIXED_PATIENT: "'mixed_patient': one PatientID with several birth dates or sexes; it may stand for several "
    "patients",
    Flag.SHARED_STUDY: "'shared_study': one StudyInstanceUID under several PatientIDs; one patient may count as "
    "several",
}
"""Flags that need an explanation where they are counted."""
_FIRST = {"site": "unnamed", "label": UNLABELLED, "licence": ""}
"""What holds where no run was told anything else."""
_FILES_LOOKED_INTO = 500
"""Whose headers are read again to say why labels do not join; pseudonyms alone cannot tell."""


@dataclass(frozen=True)
class IntakeConfig:
    """De-identified import of a hospital's DICOM files.

    Attributes:
        root: Folder to walk (zip archives in it are opened), or one file, archive or DICOMDIR.
        output: Folder for `manifest.csv`, `provenance.csv`, `quarantine.csv` and the images; outside root. A second run
            into it resumes the first; one of another root is refused.
        site: Name of the hospital, the manifest's column `site`; null for that of the run before, at first `unnamed`.
        labels: Table (CSV, .xlsx) with `label` and one of `patient_id`, `accession`, `study_instance_uid`,
            `sop_instance_uid`, `file` (path from root); null for the labels of the run before, at first none.
        label: Label of images that the table of labels does not name; null for that of the run before, at first
            `unlabelled`.
        licence: Terms of use, the manifest's column `licence`; null for those of the run before.
        format: `png`, rendered images of 16 bits; or `reference`, links to the DICOM files as they are, which hold the
            patients' identity: an output that is not to be passed on.
        polarity: What happens to an image that looks like a negative: `record` it, `quarantine` it, `correct` it.
        dates: `drop`, or `shift` by a secret number of days per patient.
        acceptance: Acceptance criteria.
        keep_device: Writes manufacturer and model as the files have them, which is free text and may name a person or
            place; by default a manufacturer of a closed list, or `other`.
        key_file: File with the secret for pseudonyms, at least 16 bytes; null for the variable CXR_ISNET_INTAKE_KEY, or
            a key that is generated in `<output>.private`.
        follow_links: Follows links to folders, and links to files outside root.
        prune: Drops rows and images of files that an earlier run found and that are gone from root.
        workers: Worker processes; null for one per core.
        limits: What one file may cost.
    """

    root: str
    output: str
    site: str | None = None
    labels: str | None = None
    label: str | None = None
    licence: str | None = None
    format: ImageFormat = ImageFormat.PNG
    polarity: PolarityAction = PolarityAction.RECORD
    dates: DateAction = DateAction.DROP
    acceptance: AcceptanceConfig = field(default_factory=AcceptanceConfig)
    keep_device: bool = False
    key_file: str | None = None
    follow_links: bool = False
    prune: bool = False
    workers: int | None = None
    limits: FileLimits = field(default_factory=FileLimits)

    def __post_init__(self) -> None:
        for name in ("site", "label"):
            if (value := getattr(self, name)) is not None and not value.strip():
                raise InputError(f"{name} is {value!r}: it may not be empty")
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
    root, output = resolved_root(Path(config.root)), Path(config.output)
    _check_paths(config, root, output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        private = private_folder(output)
        with exclusive(output):
            return _intake(config, root, output, private)
    except OSError as error:
        raise unwritable(Path(error.filename or output), error) from error


def _intake(config: IntakeConfig, root: Path, output: Path, private: Path) -> str:
    pseudonyms = load_pseudonyms(config.key_file, private)
    table = read_label_table(config.labels, pseudonyms, root)
    import_config = ImportConfig(
        output,
        config.format,
        config.polarity,
        config.dates,
        config.acceptance,
        pseudonyms,
        config.limits,
        config.keep_device,
    )
    with ImportLog(output) as log:
        log.check_settings(_settings(import_config, root))
        for folder in (output, private):
            remove_partial_files(folder)
        choices = {"follow_links": config.follow_links, "prune": config.prune}
        with take_inventory(root, private, pseudonyms, log, **choices) as inventory:
            importer = Importer(import_config)
            _import_files(inventory, importer, log, config.workers or os.cpu_count() or 1)
            told = {**_FIRST, **log.told({name: getattr(config, name) for name in _FIRST})}
            labels = table.join(log, told["label"])
            report = _report_labels(labels, inventory, importer, private)
        constants = {name: told[name] for name in ("site", "licence")}
        counts = write_tables(log, output, labels, constants, config.dates is DateAction.SHIFT)
        if config.prune:
            _remove_unnamed_images(log, output)
    write_readme(output, config.format)
    return _summary(config, counts, inventory, report, private)


def _check_paths(config: IntakeConfig, root: Path, output: Path) -> None:
    if root.is_dir() and output.resolve().is_relative_to(root):
        raise InputError(
            f"output '{output}' lies in root '{config.root}', and would be imported itself. Name another folder"
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"output '{output}' is a file. Name a folder")
    if output.is_dir() and not (is_empty(output) or holds_import_log(output)):
        raise InputError(f"output '{output}' holds files, but no intake. Name another folder")


def _remove_unnamed_images(log: ImportLog, output: Path) -> None:
    for path in (output / IMAGE_FOLDER).glob("*/*"):
        if not log.names_image(path.relative_to(output).as_posix()):
            path.unlink()


def _settings(config: ImportConfig, root: Path) -> dict[str, str]:
    """The settings that the outcome of a file depends on; they cannot change when an intake is resumed."""
    return {
        "root": config.pseudonyms.of("root", str(root)),
        "format": config.format.value,
        "polarity": config.polarity.value,
        "dates": config.dates.value,
        "keep_device": str(config.keep_device),
        "acceptance": json.dumps(asdict(config.acceptance), sort_keys=True),
        "key": config.pseudonyms.of("key", ""),
        "version of cxr-isnet": __version__,
    }


def _import_files(inventory: Inventory, importer: Importer, log: ImportLog, workers: int) -> None:
    limits = importer.config.limits
    with (
        tqdm(total=inventory.files, desc="intake", unit="file", disable=None) as bar,
        ProcessPool[Candidate, Imported | Rejected | UnwritableOutput](
            importer, workers, limits.seconds, limits.memory
        ) as pool,
    ):
        for candidate, outcome in pool.results(_candidates(inventory, importer.config.output, log, bar)):
            if isinstance(outcome, UnwritableOutput):
                raise InputError(f"{outcome.detail}; run again to resume")
            if isinstance(outcome, TaskFailure):
                logger.error("file %s: %s", candidate.file_id, outcome.detail)
                outcome = Rejected.of_failure(outcome)
            log.record(candidate.file_id, candidate.stamp, outcome)
            bar.update()


def _candidates(inventory: Inventory, output: Path, log: ImportLog, bar: tqdm[None]) -> Iterator[Candidate]:
    """Yields the files to import; records those that are rejected unopened and skips those imported before."""
    for file_id, found in inventory:
        earlier = log.outcome(file_id)
        if found.rejection is not None:
            log.record(file_id, found.stamp, found.rejection)
        elif earlier is None or earlier[0] != found.stamp or not (output / earlier[1]).exists():
            yield Candidate(file_id, found.path, found.member, found.stamp)
            continue
        bar.update()


def _report_labels(labels: JoinedLabels, inventory: Inventory, importer: Importer, private: Path) -> str:
    """Writes what did not join to the private folder; returns how much it is, and the cure where one is seen."""
    if labels.table.key:
        labels.write_rest(private / UNJOINED)
    elif labels.by_file:
        return (
            f"  labels: {len(labels.by_file)} images have that of an earlier run, {len(labels.unlabelled)} have none; "
            "to change that, give a table of labels"
        )
    if not labels.unused and not labels.unlabelled:
        return ""
    unlabelled = set(labels.unlabelled)
    files = [found for file_id, found in inventory if file_id in unlabelled] if labels.unused else []
    cure = labels.check(_keys(files, labels.table.key, importer))
    return (
        f"  labels: {len(labels.unused)} rows label no image, {len(unlabelled)} images have no row, listed in "
        f"{private / UNJOINED}{cure and '; ' + cure}"
    )


def _keys(files: Sequence[FoundFile], key: str, importer: Importer) -> list[str]:
    """What a table of labels would have to name the files by."""
    if key not in KEYWORDS:
        return [found.name for found in files]
    candidates = [Candidate("", found.path, found.member, "") for found in files[:_FILES_LOOKED_INTO]]
    read, limits = partial(importer.identifier, keyword=KEYWORDS[key]), importer.config.limits
    with ProcessPool[Candidate, str](read, 1, limits.seconds, limits.memory) as pool:
        found = [result for _, result in pool.results(candidates) if isinstance(result, str)]
    return list(dict.fromkeys(filter(None, found)))


def _summary(config: IntakeConfig, counts: IntakeCounts, inventory: Inventory, labels: str, private: Path) -> str:
    output = Path(config.output)
    rejected = sum(counts.rejected.values())
    lines = [f"{counts.accepted} images of {counts.patients} patients accepted, {rejected} files rejected"]
    for title, by_name in (("label", counts.labels), ("rejected", counts.rejected), ("flagged", counts.flags)):
        lines += [f"  {title} {name}: {count}" for name, count in sorted(by_name.items())]
    lines += filter(None, [labels])
    lines += [f"  {text}" for flag, text in _ADVICE.items() if counts.flags[flag.value]]
    if inventory.gone and not config.prune:
        lines.append(
            f"  {inventory.gone} files that an earlier run found are gone from the root; their rows stay. If they were "
            "removed for good, set prune to true"
        )
    elif inventory.gone:
        lines.append(f"  {inventory.gone} files that are gone from the root were pruned, rows and images")
    if inventory.unlisted:
        lines.append(f"  {inventory.unlisted} folders or archives cannot be listed: see the quarantine")
    if config.format is ImageFormat.REFERENCE:
        lines.append(f"{output}: NOT TO BE PASSED ON: its images are links to files that hold the patients' identity")
    lines.append(f"{output / MANIFEST}, {output / QUARANTINE}; key and file names, not to be shared: {private}")
    return "\n".join(lines)
