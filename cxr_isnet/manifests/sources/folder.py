"""`folder`: any folder of DICOM files or images, with a table of labels.

The table names an image by its path beneath the folder, or by its file name with or without suffix where that is
unique. It must name the patient: a DICOM PatientID is never copied, since it may be a person's. View, sex and age that
the table lacks are read from DICOM headers.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import is_dicom
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Record, Source, TableOptions
from cxr_isnet.manifests.sources.table import map_columns, to_record
from cxr_isnet.tables import rows_of

logger = getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
    """The files of a folder that a table of labels names."""

    def records(self, root: Path, options: TableOptions) -> tuple[Path, Iterator[Record]]:
        """As `Source.records`; `options.table` is needed."""
        if not root.is_dir():
            raise InputError(f"{root}: there is no such folder (working directory {Path.cwd()}). Correct the path")
        if options.table is None:
            raise InputError("source 'folder' needs table: a CSV with the columns image, label, patient_id and site")
        return root, self._records(root, map_columns(Path(options.table), options), options.table)

    def _records(self, root: Path, frame: pd.DataFrame, table: str) -> Iterator[Record]:
        files = _Files(root)
        named = set()
        for row in rows_of(frame):
            image = files.find(row["image"], table)
            named.add(image)
            yield to_record(row, image, root, header=is_dicom(image))
        unnamed = len(files.all - named)
        if unnamed:
            logger.warning("%s: %d files are not named in %s (masks among them) and get no row", root, unnamed, table)


class _Files:
    """The files beneath a folder, found by path, name or name without suffix."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.all = {path for path in root.rglob("*") if path.is_file()}
        self._named = defaultdict(list)
        for path in sorted(self.all):
            for name in {path.name, path.stem}:
                self._named[name].append(path)

    def find(self, cell: str, table: str) -> Path:
        """The file that a cell names; a path that is no file where none has the name."""
        if (self.root / cell) in self.all:
            return self.root / cell
        found = self._named.get(cell, [])
        if len(found) > 1:
            raise InputError(
                f"{table}: image {cell!r} is the name of {len(found)} files, among them {found[0]} and {found[1]}. "
                f"Give its path beneath {self.root}"
            )
        return found[0] if found else self.root / cell


SOURCE = FolderSource(
    name="folder",
    title="any folder",
    layout="""<folder>/**/<image>   (DICOM, PNG, JPEG)
table: with a column each for image, label, patient_id and site, else mapped to them""",
    labels=LabelMapping(None),
    licence="",
    citation="",
    keeps_unknown_view=True,
)
