"""Labels of a hospital's own table, joined by pseudonyms; what does not join is reported."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cxr_isnet.errors import InputError
from cxr_isnet.files import write_csv
from cxr_isnet.intake.import_log import AcceptedRow, ImportLog
from cxr_isnet.intake.pseudonyms import Pseudonyms

UNLABELLED = "unlabelled"
_IDENTIFIERS = {
    "patient_id": ("PatientID", "patient"),
    "accession": ("AccessionNumber", "accession"),
    "study_instance_uid": ("StudyInstanceUID", "study"),
    "sop_instance_uid": ("SOPInstanceUID", "instance"),
}
"""Key columns to the tags that they name, and the kinds of their pseudonyms."""

KEYWORDS = {key: keyword for key, (keyword, _) in _IDENTIFIERS.items()}
"""Key columns to the tags that they name."""

_KINDS = {key: kind for key, (_, kind) in _IDENTIFIERS.items()}
"""Key columns to the kinds of their pseudonyms."""

KEYS = (*KEYWORDS, "file")
_ACCESSION_NUMBER = "accession_number"
_SHOWN = 3


@dataclass(frozen=True)
class LabelRow:
    """A row of a table of labels.

    Attributes:
        number: from 1, below the header.
        key: what it labels, as the table has it; identifies a person.
        label: of it.
    """

    number: int
    key: str
    label: str


@dataclass(frozen=True)
class LabelTable:
    """Labels by the pseudonym of a patient, an examination or a file.

    Attributes:
        path: of the table; "" without one.
        key: the table's key column, one of `KEYS`; "" without a table.
        rows: pseudonym to row.
    """

    path: str
    key: str
    rows: Mapping[str, LabelRow]

    def join(self, log: ImportLog, default: str = UNLABELLED) -> JoinedLabels:
        """The labels of the manifest's rows; without a table, those that an earlier run's table gave.

        Args:
            log: of a finished intake; keeps the labels for later runs.
            default: label of images that the table does not name.

        Raises:
            InputError: copies of one image have different labels.
        """
        labels = {} if self.key else log.kept_labels()
        has_labels = bool(self.key or labels)
        unused = dict(self.rows)
        if self.key == "file":
            first: dict[str, LabelRow] = {}
            for file_id, row in self.rows.items():
                image = log.copy_in_manifest(file_id)
                if not image:
                    continue
                del unused[file_id]
                if first.setdefault(image, row).label != row.label:
                    raise InputError(
                        f"{self.path}: rows {first[image].number} and {row.number} give copies of one image different "
                        "labels. Keep one"
                    )
                labels[image] = row.label
        unlabelled = []
        for accepted in log.accepted():
            pseudonym = accepted.pseudonyms.get(_KINDS.get(self.key, ""), "")
            if pseudonym in self.rows:
                labels[accepted.file_id] = self.rows[pseudonym].label
                unused.pop(pseudonym, None)
            if has_labels and accepted.file_id not in labels:
                unlabelled.append(accepted.file_id)
        if self.key:
            log.keep_labels(labels)
        return JoinedLabels(self, labels, default, tuple(unused.values()), tuple(unlabelled))


@dataclass(frozen=True)
class JoinedLabels:
    """Labels of the manifest's rows, and what did not join.

    Attributes:
        table: the labels.
        by_file: pseudonym of a file to its label.
        default: label of the other files.
        unused: rows of the table that label no image.
        unlabelled: pseudonyms of the files that no row labels.
    """

    table: LabelTable
    by_file: Mapping[str, str]
    default: str
    unused: tuple[LabelRow, ...] = ()
    unlabelled: tuple[str, ...] = field(default=(), repr=False)

    def label_of(self, row: AcceptedRow) -> str:
        """The label of an accepted file."""
        return self.by_file.get(row.file_id, self.default)

    def write_rest(self, path: Path) -> None:
        """Writes what did not join; names keys, and belongs into the private folder."""
        rows = [("row without image", row.number, row.key, "") for row in self.unused]
        images = [("image without row", None, "", file_id) for file_id in self.unlabelled]
        write_csv(path, ("what", "row", self.table.key, "file_id"), [*rows, *images])

    def check(self, keys: Iterable[str]) -> str:
        """What the table's unused keys and those of unlabelled images have in common.

        Args:
            keys: keys of unlabelled images, as their files have them; they identify persons.

        Returns:
            The change by which most rows would join, "" where none would.

        Raises:
            InputError: no row joins; names three keys of each side.
        """
        keys = list(keys)
        cure = _cure([row.key for row in self.unused], keys)
        if self.unused and not self.by_file:
            theirs = ", ".join(repr(row.key) for row in self.unused[:_SHOWN])
            ours = ", ".join(map(repr, keys[:_SHOWN])) or "none has one"
            raise InputError(
                f"{self.table.path}: none of its {len(self.unused)} keys in column {self.table.key!r} is that of an "
                f"image. The table has {theirs}; the images have {ours}. "
                f"{cure or 'Take the keys from the files, or choose another key column'}"
            )
        return cure


_CURES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("zeros in front are left out (Excel strips them: format the column as text)", lambda key: key.lstrip("0")),
    ("capitals and small letters are the same", str.casefold),
    ("blanks and signs are left out", lambda key: "".join(filter(str.isalnum, key))),
    ("the forms of Unicode are the same", lambda key: unicodedata.normalize("NFKC", key)),
    ("folders are left out: write paths from the root, with '/'", lambda key: _path(key).name),
    ("suffixes are left out", lambda key: re.sub(r"(?<=[^/!])\.[A-Za-z]\w*$", "", key.replace("\\", "/"))),
)


def _path(key: str) -> PurePosixPath:
    return PurePosixPath(key.replace("\\", "/").replace("!", "/"))


def _cure(theirs: list[str], ours: list[str]) -> str:
    """The first of the smallest changes by which most keys of one side are keys of the other."""

    def joined(*changes: Callable[[str], str]) -> int:
        def changed(key: str) -> str:
            for change in changes:
                key = change(key)
            return key

        known = set(map(changed, ours)) - {""}
        return sum(changed(key) in known for key in theirs)

    counts = {text: joined(change) for text, change in _CURES}
    best = max(counts, key=lambda text: counts[text])
    if counts[best]:
        return f"{counts[best]} would join if {best}"
    everything = joined(*(change for _, change in reversed(_CURES)))
    return f"{everything} would join if folders, suffixes, signs, capitals and zeros in front are left out" * (
        everything > 0
    )


def read_label_table(path: str | None, pseudonyms: Pseudonyms, root: Path) -> LabelTable:
    """Reads a table of labels.

    Args:
        path: any table that `read_table` reads, with the column `label` and one of `KEYS`: a tag of `KEYWORDS`, or
            `file` (path from the root, with `/`); None for no table.
        pseudonyms: of the intake.
        root: of the intake, without links.

    Returns:
        The labels; without a table, none.

    Raises:
        InputError: the table cannot be read, lacks a column, or gives one key two labels. Rows are named by number,
            because keys may identify a person.
    """
    if path is None:
        return LabelTable("", "", {})
    # not at the top: an intake without labels needs no pandas
    from cxr_isnet.tables import ROUNDED, folded_name, match_columns, read_table

    frame = match_columns(read_table(Path(path)), (*KEYS, _ACCESSION_NUMBER, "label"), path)
    frame = frame.rename(columns={_ACCESSION_NUMBER: "accession"})
    keys = [column for column in frame.columns if column in KEYS]
    if "label" not in frame.columns or len(keys) != 1:
        raise InputError(
            f"{path}: has the columns {', '.join(map(repr, frame.columns))}; needed are 'label' and exactly one of "
            f"{', '.join(map(repr, KEYS))}. Rename or remove columns"
        )
    key = keys[0]
    rows: dict[str, LabelRow] = {}
    spelt: dict[str, LabelRow] = {}
    for number, value, label in zip(frame.index, frame[key], frame["label"], strict=True):
        if not value or not label:
            raise InputError(f"{path}: row {number}: column {key!r} or 'label' is empty. Fill both, or drop the row")
        if ROUNDED.fullmatch(value):
            raise InputError(
                f"{path}: row {number}: column {key!r} is a number that Excel has rounded, as 1.2E+11. Export it anew "
                "with that column as text"
            )
        if key == "file":
            pseudonym = pseudonyms.of_file(root, _from_root(value, root))
        else:
            pseudonym = pseudonyms.of(_KINDS[key], value)
        row = LabelRow(int(number), value, label)
        first = spelt.setdefault(folded_name(label), row)
        if first.label != label:
            raise InputError(
                f"{path}: column 'label' has one name in two spellings, {first.label!r} in row {first.number} and "
                f"{label!r} in row {number}. Give each class one spelling"
            )
        if rows.setdefault(pseudonym, row).label != label:
            raise InputError(f"{path}: row {number}: column {key!r} was given another label before. Keep one")
    return LabelTable(path, key, rows)


def _from_root(path: str, root: Path) -> str:
    r"""A path from the root, of one that begins with `./` or `.\`, or is absolute."""
    return path.replace("\\", "/").removeprefix(f"{root}/").removeprefix("./")
