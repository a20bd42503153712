"""Labels of a hospital's own table, joined by pseudonyms, so that its identifiers never leave memory."""

import csv
from dataclasses import dataclass
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.intake.import_log import AcceptedRow
from cxr_isnet.intake.pseudonyms import Pseudonyms

UNLABELLED = "unlabelled"
KEYS = ("patient_id", "accession", "file")


@dataclass(frozen=True)
class LabelTable:
    """Labels by the pseudonym of a patient, an examination or a file.

    Attributes:
        key: the table's key column, one of `KEYS`; "" without a table.
        by_key: pseudonym to label.
        default: label of images that the table does not name.
    """

    key: str
    by_key: dict[str, str]
    default: str

    def label_of(self, row: AcceptedRow) -> str:
        """The label of an accepted file."""
        pseudonym = {"patient_id": row.patient, "accession": row.accession, "file": row.file_id}.get(self.key, "")
        return self.by_key.get(pseudonym, self.default)


def read_label_table(path: str | None, default: str, pseudonyms: Pseudonyms, root: Path) -> LabelTable:
    """Reads a table of labels.

    Args:
        path: UTF-8 CSV with the column `label` and one of `patient_id` (PatientID), `accession` (AccessionNumber) or
            `file` (path from the root, with `/`); None for no table.
        default: label of images that the table does not name.
        pseudonyms: of the intake.
        root: of the intake, without links.

    Returns:
        The labels; without a table, the default for every image.

    Raises:
        InputError: the table cannot be read, lacks a column, or gives one key two labels. Rows are named by number,
            because keys may identify a person.
    """
    if path is None:
        return LabelTable("", {}, default)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            keys = [key for key in KEYS if key in columns]
            if "label" not in columns or len(keys) != 1:
                raise InputError(
                    f"{path}: has the columns {', '.join(map(repr, columns))}; needed are 'label' and exactly one of "
                    f"{', '.join(map(repr, KEYS))}. Rename or remove columns"
                )
            return LabelTable(keys[0], _labels_by_pseudonym(reader, keys[0], path, pseudonyms, root), default)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table ({type(error).__name__}). Save it as UTF-8 CSV") from error


def _labels_by_pseudonym(
    reader: "csv.DictReader[str]", key: str, path: str, pseudonyms: Pseudonyms, root: Path
) -> dict[str, str]:
    kind = "patient" if key == "patient_id" else key
    labels: dict[str, str] = {}
    for number, row in enumerate(reader, start=1):
        value, label = (row[key] or "").strip(), (row["label"] or "").strip()
        if not value or not label:
            raise InputError(f"{path}: row {number}: column {key!r} or 'label' is empty. Fill both, or drop the row")
        pseudonym = pseudonyms.of_file(root, value) if key == "file" else pseudonyms.of(kind, value)
        if labels.setdefault(pseudonym, label) != label:
            raise InputError(f"{path}: row {number}: column {key!r} was given another label before. Keep one")
    return labels
