"""The schema of a manifest, and pandera's failure cases as problems with a remedy."""

from collections.abc import Iterator, Mapping

import pandas as pd
import pandera.pandas as pa

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.problems import ColumnProblem
from cxr_isnet.tables import ROUNDED

REQUIRED_COLUMNS = ("image", "label", "patient_id", "site")
SPLITS = ("", "train", "val", "test")

_REMEDIES: Mapping[str, str] = {
    "image": "give the path of the image file, relative to the table's folder",
    "label": "give the class of the image, or remove the row",
    "patient_id": "give one identifier to all images of a patient, as text: splits are made by patient",
    "site": "give the name of the hospital that made the image",
    "mask": "give the path of the lung mask, or leave the cell empty",
    "split": "use train, val, test, or leave the whole column empty to have it filled",
    "sex": "use F, M, O, or leave the cell empty",
    "age": "give years from 0 to 120, or leave the cell empty",
    "sha256": "give 64 lower-case hexadecimal digits, or leave the cell empty",
}


def _text(*checks: pa.Check, required: bool = False) -> pa.Column:
    return pa.Column(str, list(checks), required=required, nullable=False)


def _filled() -> pa.Check:
    return pa.Check(lambda column: column != "", error="is empty")


def _whole_number() -> pa.Check:
    return pa.Check(lambda column: ~column.str.fullmatch(ROUNDED), error="has lost digits in Excel")


MANIFEST_SCHEMA = pa.DataFrameSchema(
    {
        **{name: _text(_filled(), required=True) for name in REQUIRED_COLUMNS},
        "patient_id": _text(_filled(), _whole_number(), required=True),
        "mask": _text(),
        "view": _text(),
        "sex": _text(pa.Check.isin(("", "F", "M", "O"), error="is none of F, M, O")),
        "age": pa.Column(float, pa.Check.in_range(0, 120, error="is not an age"), nullable=True, required=False),
        "split": _text(pa.Check.isin(SPLITS, error="is none of train, val, test")),
        "licence": _text(),
        "sha256": _text(pa.Check.str_matches(r"^([0-9a-f]{64})?$", error="is not a SHA-256 digest")),
    },
    strict=False,
)
"""Columns of a manifest; any other column is kept as it is."""

MANIFEST_COLUMNS = tuple(MANIFEST_SCHEMA.columns)


def check_columns(frame: pd.DataFrame, table: str) -> None:
    """Checks that all required columns are present.

    Args:
        frame: the table as text.
        table: name of the file, for the error.

    Raises:
        InputError: names the missing columns and those that the table has.
    """
    missing = [name for name in REQUIRED_COLUMNS if name not in frame.columns]
    if missing:
        raise InputError(
            f"{table}: column {', '.join(map(repr, missing))} is missing; the table has "
            f"{', '.join(map(repr, frame.columns))}. Add or rename the column, or use a column mapping "
            "(see data_manifests/README.md)"
        )


def schema_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """The cells that break the schema, one problem per column and rule.

    Args:
        frame: the table as text, `age` as numbers; its index numbers the data rows from 1.
        table: name of the file.
    """
    try:
        MANIFEST_SCHEMA.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        for (column, rule), found in cases.groupby(["column", "check"], sort=False):
            values = pd.Series(found["failure_case"].to_list(), index=found["index"].to_list())
            yield ColumnProblem(table, str(column), values, str(rule), _REMEDIES.get(str(column), ""))
