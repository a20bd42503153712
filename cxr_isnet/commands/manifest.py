"""`cxr-isnet manifest build | sources | check`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from cxr_isnet.checks import (
    SCHEMA_CHECK,
    Check,
    Finding,
    ManifestScan,
    exit_status,
    scan_manifests,
    text_report,
    write_html_report,
    write_json_report,
)
from cxr_isnet.checks.rules import CHECKS
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import build_manifest, set_folder, set_manifest
from cxr_isnet.manifests.source_parsing import PublishedSet, Source, TableOptions
from cxr_isnet.manifests.sources import SOURCES, find_source


@dataclass(frozen=True)
class BuildConfig:
    """The manifest of a data set in the layout in which its publisher ships it.

    Attributes:
        source: Name of the set; `cxr-isnet manifest sources` lists them.
        root: Its folder; for `table`, the table or a column mapping. A public set lies in
            `${CXR_ISNET_DATA:-data}/<source>` unless another folder is named.
        output: The manifest to write, CSV or Parquet; its paths are relative to its folder. That of a public set is
            `${CXR_ISNET_DATA:-data}/<source>/manifest.csv`, where recipes look for it, unless another is named.
        labels: The publisher's label to class, beside the set's own mapping; for `folder` and `table` the whole
            mapping, and without it every label is its own class.
        table: Table of labels, for `folder`.
        columns: The manifest's column to the table's, for `folder` and `table`; all under their names if left out.
        constants: The manifest's column to a value for all rows, for `folder` and `table`.
        where: The table's column to the values whose rows are kept, for `folder` and `table`.
        checksums: Fills the column sha256.
        partial: Takes a part of a set: more images may be missing than are found.
    """

    source: str
    root: str | None = None
    output: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    table: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    where: dict[str, list[str]] = field(default_factory=dict)
    checksums: bool = False
    partial: bool = False


@dataclass(frozen=True)
class SourcesConfig:
    """The known data sets and the layout that each must have.

    Attributes:
        name: One set; all of them if left out.
    """

    name: str | None = None


def build(config: BuildConfig) -> str:
    """Writes the manifest; returns what is in it and what was dropped, as text."""
    source = find_source(config.source)
    root, output = _places(config, source)
    options = TableOptions(config.table, config.columns, config.constants, config.where)
    report = build_manifest(
        source,
        root,
        output,
        options=options,
        labels=config.labels,
        checksums=config.checksums,
        partial=config.partial,
    )
    return report.summary()


def _places(config: BuildConfig, source: Source) -> tuple[Path, Path]:
    """What is read and what is written; raises `InputError` where one is not given and has no default."""
    if not isinstance(source, PublishedSet):
        if config.root is None or config.output is None:
            lacking = f"a {source.name} to read" if config.root is None else "a manifest to write"
            raise InputError(
                f"source '{source.name}' needs {lacking}: cxr-isnet manifest build {source.name} "
                f"{source.name.upper()} -o OUTPUT.csv"
            )
        return Path(config.root), Path(config.output)
    root = set_folder(source.name) if config.root is None else Path(config.root)
    if config.root is None and not root.is_dir():
        raise InputError(
            f"{root}: there is no such folder (working directory {Path.cwd()}). Unpack {source.title} there (had from "
            f"{source.had_from}), or name the folder of the download: cxr-isnet manifest build {source.name} FOLDER"
        )
    return root, set_manifest(source.name) if config.output is None else Path(config.output)


def list_sources(config: SourcesConfig) -> str:
    """Title, layout, publisher's page, labels, terms and citation of the sets, as text."""
    chosen = SOURCES if config.name is None else (find_source(config.name),)
    return "\n\n".join(_described(source) for source in chosen)


def _described(source: Source) -> str:
    classes = source.labels.classes
    labels = ", ".join(f"{label} -> {name}" for label, name in classes.items()) if classes else "each its own class"
    had_from = source.had_from if isinstance(source, PublishedSet) else ""
    details = {"had from": had_from, "labels": labels, "licence": source.licence, "cite": source.citation}
    lines = [f"  {what}: {text}" for what, text in details.items() if text]
    return "\n".join([f"{source.name}: {source.title}", indent(source.layout, "    "), *lines])


logger = logging.getLogger(__name__)

_SCHEMA = Check(SCHEMA_CHECK, "tables can be read, and have the columns and cells of a manifest", lambda _: ())


@dataclass(frozen=True)
class CheckConfig:
    """Checks of manifests, and of the files that they name, before any training.

    Attributes:
        tables: Manifests, tables or column mappings; checked one by one and against each other.
        external: More of them, of hospitals that are only to be tested on: controls learn from all other tables
            together, and are moved to each of these. Without any, each table's controls are moved to each other table.
        html: Page to write, with thumbnails of what is flagged; null for none.
        json: File to write with all findings; null for none.
        workers: Files read at a time.
    """

    tables: list[str]
    external: list[str] = field(default_factory=list)
    html: str | None = None
    json: str | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"workers is {self.workers}: at least 1 is needed")
        for name, file in (("html", self.html), ("json", self.json)):
            if file is not None and (Path(file).is_dir() or not Path(file).absolute().parent.is_dir()):
                raise InputError(f"{name} is '{file}': name a file in a folder that exists")
            if file is not None and Path(file).exists() and any(map(Path(file).samefile, self._existing())):
                raise InputError(f"{name} is '{file}', a table that is checked: name another file")

    def _existing(self) -> list[str]:
        return [table for table in (*self.tables, *self.external) if Path(table).exists()]


def check(config: CheckConfig) -> tuple[str, int]:
    """Checks tables and files and writes the reports; returns the text and the exit status.

    The status is 0 without findings, 1 with findings, 2 when a table is unusable. Findings of severity info leave it at
    0.
    """
    scan = scan_manifests(config.tables, workers=config.workers, external=config.external)
    groups = run_checks(scan)
    findings = [finding for _, found in groups for finding in found]
    if config.json is not None:
        write_json_report(Path(config.json), scan, findings)
    if config.html is not None:
        write_html_report(Path(config.html), scan, groups)
    return text_report(scan, groups), exit_status(findings)


def run_checks(scan: ManifestScan) -> Sequence[tuple[Check, tuple[Finding, ...]]]:
    """Every check with its findings; the schema first."""
    groups: list[tuple[Check, tuple[Finding, ...]]] = [(_SCHEMA, scan.schema_findings)]
    for rule in CHECKS if scan.tables else ():
        logger.info("check %s: %s", rule.name, rule.about)
        groups.append((rule, tuple(rule.find(scan))))
    return groups
