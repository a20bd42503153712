"""`folder`: any folder of DICOM files or images, with a table of labels.

The table names an image by its path beneath the folder, or by its file name, with or without suffix, where that is
unique; of names that differ in capitals only, the one that is written so is meant. It must name the patient: a DICOM
PatientID is never copied, since it may be a person's. View, sex and age that the table lacks are read from DICOM
headers.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path, PurePosixPath

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import is_dicom
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import matches
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
    """The files beneath a folder, found by path or name, with or without suffix, whatever their capitals."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.all = {path for path in matches(root, "**/*") if path.is_file()}
        self._named: list[dict[str, list[tuple[str, Path]]]] = [defaultdict(list) for _ in range(4)]
        for path in sorted(self.all):
            inside = PurePosixPath(_plain(path.relative_to(root).as_posix()))
            names = str(inside), inside.name, str(inside.with_suffix("")), inside.stem
            for named, name in zip(self._named, names, strict=True):
                named[name.casefold()].append((name, path))

    def find(self, cell: str, table: str) -> Path:
        """The file that a cell names; a path that is no file where none has the name."""
        if (self.root / cell) in self.all:
            return self.root / cell
        wanted = _plain(cell)
        alike = next((named[wanted.casefold()] for named in self._named if wanted.casefold() in named), [])
        found = [path for name, path in alike if name == wanted] or [path for _, path in alike]
        if len(found) > 1:
            raise InputError(
                f"{table}: image {cell!r} is the name of {len(found)} files, among them {found[0]} and {found[1]}. "
                f"Give its path beneath {self.root}"
            )
        return found[0] if found else self.root / cell


def _plain(path: str) -> str:
    """A path in Unicode's composed form, with `/`, as Windows and macOS do not write it, and without `./`."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).removeprefix("./")


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
