"""`table`: any other table, its columns mapped by options or by a column mapping."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.column_mapping import MAPPING_SUFFIXES, ColumnMapping, read_column_mapping
from cxr_isnet.manifests.schema import REQUIRED_COLUMNS, check_columns
from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Record, Source, TableOptions
from cxr_isnet.tables import find_file, read_table, rows_of

_OWN = (*REQUIRED_COLUMNS, "mask", "view", "sex", "age", "licence")


@dataclass(frozen=True, kw_only=True)
class TableSource(Source):
    """The rows of a table; paths are relative to the table's folder."""

    def records(self, root: Path, options: TableOptions) -> tuple[Path, Iterator[Record]]:
        """As `Source.records`; `root` is the table, or a column mapping, which has no options."""
        if options.table is not None:
            raise InputError("source 'table' is given its table as root: leave out table")
        if root.suffix.lower() in MAPPING_SUFFIXES:
            if options.given():
                raise InputError(f"{root}: a column mapping has no options: leave out {', '.join(options.given())}")
            mapping = read_column_mapping(root)
            frame = mapping.apply(read_table(mapping.table), str(root))
            check_columns(frame, str(root))
            home = mapping.table.parent
        else:
            frame, home = map_columns(root, options), root.parent
        return home, (to_record(row, Path(find_file(home, row["image"])), home) for row in rows_of(frame))


def map_columns(table: Path, options: TableOptions) -> pd.DataFrame:
    """The rows of a table under a manifest's column names.

    Args:
        table: as `cxr_isnet.tables.read_table` reads it.
        options: `columns`, `constants`, `where`; without `columns`, all are taken under their names.

    Raises:
        InputError: the table cannot be read, or lacks a column.
    """
    frame = read_table(table)
    where = {column: tuple(values) for column, values in options.where.items()}
    frame = ColumnMapping(table, options.columns, options.constants, where).apply(frame, str(table))
    check_columns(frame, str(table))
    return frame


def to_record(row: dict[str, str], image: Path, home: Path, *, header: bool = False) -> Record:
    """A row, under a manifest's column names, as a record.

    Args:
        row: cells by column.
        image: the file.
        home: folder that masks are relative to.
        header: as in `Record`.
    """
    return Record(
        image,
        (row["label"],),
        row["patient_id"],
        row["site"],
        view=row.get("view", ""),
        sex=row.get("sex", ""),
        age=years(row.get("age", "")),
        masks=(Path(find_file(home, row["mask"])),) if row.get("mask") else (),
        licence=row.get("licence", ""),
        header=header,
        more={name: cell for name, cell in row.items() if name not in _OWN},
    )


SOURCE = TableSource(
    name="table",
    title="any table",
    layout="""<table>.csv or .parquet with a column each for image, label, patient_id and site, else mapped to them;
or a column mapping <mapping>.yaml over such a table (data_manifests/README.md)""",
    labels=LabelMapping(None),
    licence="",
    citation="",
    keeps_unknown_view=True,
)
