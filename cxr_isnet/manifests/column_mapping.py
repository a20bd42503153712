"""Column mappings: a YAML file that reads any other table, or some rows of a manifest, as a manifest."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.config import expand_variables, read_yaml
from cxr_isnet.errors import InputError
from cxr_isnet.manifests.schema import MANIFEST_COLUMNS
from cxr_isnet.tables import match_columns

logger = logging.getLogger(__name__)

MAPPING_SUFFIXES = (".yaml", ".yml")

PATIENT_TENTH = "patient_tenth"
"""In `where`: splits the patients of any table into tenths, where one set is to be trained on and tested."""

_KEYS = ("table", "columns", "constants", "where", "leave_out")


@dataclass(frozen=True)
class ColumnMapping:
    """How the rows of another table become rows of a manifest.

    Attributes:
        table: the other table, as `cxr_isnet.tables.read_table` reads it.
        columns: the manifest's column to the other table's column; columns that are not named are dropped. If empty,
            all columns are taken under their names.
        constants: the manifest's column to the value that all rows get.
        where: the other table's column to the values whose rows are kept; or `patient_tenth` to numbers 0 to 9, a tenth
            of the patients each, always the same ones.
        leave_out: the other table's column to the values whose rows are left out of those, which is logged with their
            count.
    """

    table: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    leave_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def apply(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """Select, rename and complete the rows of the other table.

        Args:
            frame: the other table as text.
            name: the mapping's file name, for the error.

        Raises:
            InputError: a column is not in the table, or no row is left.
        """
        named = {*self.columns.values(), *self.where, *self.leave_out} - {PATIENT_TENTH, *frame.columns}
        frame = match_columns(frame, named if self.columns else {*named, *MANIFEST_COLUMNS}, self.table)
        wanted = [column for column in self.where if column != PATIENT_TENTH or column in frame.columns]
        for column in (*self.columns.values(), *wanted, *self.leave_out):
            if column not in frame.columns:
                raise InputError(
                    f"{name}: column {column!r} is not in {self.table}, which has "
                    f"{', '.join(map(repr, frame.columns))}. Correct the mapping"
                )
        for column, allowed in self.where.items():
            values = frame[column] if column in frame.columns else self._tenths(frame, name)
            kept = frame[values.isin(allowed)]
            if kept.empty:
                raise InputError(
                    f"{name}: no row of {self.table} is left where column {column!r} is one of "
                    f"{', '.join(map(repr, allowed))}. Correct 'where' in the mapping"
                )
            frame = kept
        for column, unwanted in self.leave_out.items():
            gone, told = frame[column].isin(unwanted), ", ".join(unwanted)
            if gone.any():
                logger.info(
                    "%s: %d of %d rows are left out, whose %r is %s", name, gone.sum(), len(frame), column, told
                )
            frame = frame[~gone]
        columns = self.columns or {str(name): str(name) for name in frame.columns}
        ours = pd.DataFrame({ours: frame[theirs] for ours, theirs in columns.items()}, index=frame.index)
        return ours.assign(**self.constants)

    def _tenths(self, frame: pd.DataFrame, name: str) -> pd.Series:
        """Which tenth of the patients each row belongs to, "0" to "9", by a digest of the patient's id."""
        column = self.columns.get("patient_id", "patient_id")
        if column not in frame.columns:
            raise InputError(f"{name}: 'where' has {PATIENT_TENTH}, but {self.table} has no column {column!r}")
        return frame[column].map(lambda patient: str(int(sha256(patient.encode()).hexdigest(), 16) % 10))


def read_column_mapping(path: Path) -> ColumnMapping:
    """Read a column mapping.

    `${NAME}` and `${NAME:-default}` in `table` are replaced from the environment. A relative path that
    holds such a variable is looked up from the working directory, as a shell would; any other relative path
    from the mapping's folder.

    Raises:
        InputError: not a column mapping, or a variable without a value.
    """
    content = read_yaml(path, "a readable column mapping", text_only=True)
    if not isinstance(content, dict) or "table" not in content:
        raise InputError(f"{path}: a column mapping needs the key 'table' (data_manifests/README.md)")
    unknown = sorted(str(key) for key in content if key not in _KEYS)
    if unknown:
        raise InputError(f"{path}: unknown key {', '.join(unknown)}; a column mapping has {', '.join(_KEYS)}")
    return ColumnMapping(
        table=_locate(str(content["table"]), path),
        columns=_texts(content, "columns", path),
        constants=_texts(content, "constants", path),
        where={column: _allowed(value) for column, value in _mapping(content, "where", path).items()},
        leave_out={column: _allowed(value) for column, value in _mapping(content, "leave_out", path).items()},
    )


def _locate(table: str, mapping: Path) -> Path:
    expanded = expand_variables(table, f"{mapping}: key 'table'")
    file = Path(expanded).expanduser()
    return mapping.parent / file if expanded == table else file


def _mapping(content: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise InputError(f"{path}: key {key!r} holds {value!r}; give 'name: value' pairs")
    return {str(name): entry for name, entry in value.items()}


def _texts(content: Mapping[str, Any], key: str, path: Path) -> dict[str, str]:
    return {name: str(value) for name, value in _mapping(content, key, path).items()}


def _allowed(value: Any) -> tuple[str, ...]:
    return tuple(map(_cell, value)) if isinstance(value, list) else (_cell(value),)


def _cell(value: Any) -> str:
    """A value as `read_table` gives it: 1.0 is "1"."""
    return re.sub(r"^(-?(?:0|[1-9]\d*))\.0+$", r"\1", str(value))
