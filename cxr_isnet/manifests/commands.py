"""`cxr-isnet manifest build` and `cxr-isnet manifest sources`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.sources.source import SOURCES, Source, TableOptions


@dataclass(frozen=True)
class BuildConfig:
    """The manifest of a data set in the layout in which its publisher ships it.

    Attributes:
        source: Name of the set; `cxr-isnet manifest sources` lists them.
        root: Its folder; for `table`, the table or a recipe.
        output: The manifest to write, CSV or Parquet; its paths are relative to its folder.
        labels: The publisher's label to class, beside the set's own mapping; for `folder` and `table` the whole
            mapping, and without it every label is its own class.
        table: Table of labels, for `folder`.
        columns: The manifest's column to the table's, for `folder` and `table`; all under their names if left out.
        constants: The manifest's column to a value for all rows, for `folder` and `table`.
        where: The table's column to the values whose rows are kept, for `folder` and `table`.
        checksums: Fills the column sha256.
    """

    source: str
    root: str
    output: str
    labels: dict[str, str] = field(default_factory=dict)
    table: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    where: dict[str, list[str]] = field(default_factory=dict)
    checksums: bool = False


@dataclass(frozen=True)
class SourcesConfig:
    """What sets are known, and how each must be laid out.

    Attributes:
        name: One set; all of them if left out.
    """

    name: str | None = None


def build(config: BuildConfig) -> str:
    """Writes the manifest; returns what is in it and what was dropped, as text."""
    options = TableOptions(config.table, config.columns, config.constants, config.where)
    report = build_manifest(
        SOURCES.get(config.source),
        Path(config.root),
        Path(config.output),
        options=options,
        labels=config.labels,
        checksums=config.checksums,
    )
    return report.summary()


def list_sources(config: SourcesConfig) -> str:
    """Title, layout, labels, terms and citation of the sets, as text."""
    chosen = SOURCES.all().values() if config.name is None else [SOURCES.get(config.name)]
    return "\n\n".join(_described(source) for source in chosen)


def _described(source: Source) -> str:
    classes = source.labels.classes
    labels = ", ".join(f"{label} -> {name}" for label, name in classes.items()) if classes else "each its own class"
    told = {"labels": labels, "licence": source.licence, "cite": source.citation}
    lines = [f"  {what}: {text}" for what, text in told.items() if text]
    return "\n".join([f"{source.name}: {source.title}", indent(source.layout, "    "), *lines])
