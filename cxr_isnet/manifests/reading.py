"""Reading manifests: from files to a checked frame with absolute paths."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import sex
from cxr_isnet.manifests.column_mapping import MAPPING_SUFFIXES, read_column_mapping
from cxr_isnet.manifests.data_folder import how_to_build
from cxr_isnet.manifests.problems import (
    ColumnProblem,
    Place,
    label_problems,
    missing_file_problems,
    patient_overlap_problems,
    raise_first,
    repeated_image_problems,
    spelling_problems,
)
from cxr_isnet.manifests.schema import MANIFEST_COLUMNS, check_columns, schema_problems
from cxr_isnet.shipped import locate
from cxr_isnet.tables import find_file, match_columns, read_table, to_numbers


def read_manifest(path: str | Path, *, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads and checks one manifest.

    Args:
        path: a table (`cxr_isnet.tables.read_table`), or a column mapping (YAML) over another table.
        classes: labels that are allowed; None allows any.

    Returns:
        One row per image, index from 0. `image` and `mask` are absolute paths, `mask` is "" where there is
        none; `age` is float with NaN where unknown; `split`, always present, is "" where not decided. All
        else is text.

    Raises:
        InputError: the table cannot be read or breaks a rule of the schema; a class has several spellings; a file is
            missing; an image is listed twice; a patient is in two splits.

    Example:
        >>> frame = read_manifest("hospital_a/manifest.csv", classes=["normal", "tuberculosis"])
        >>> len(frame), frame["site"].unique().tolist()
        (12, ['Alder'])
    """
    return _accepted(path, classes).reset_index(drop=True)


def _accepted(path: str | Path, classes: Sequence[str] | None) -> pd.DataFrame:
    """Reads a manifest that breaks no rule; the index numbers the data rows from 1."""
    frame, problems = inspect_manifest(path)
    raise_first(problems)
    raise_first(spelling_problems(frame, str(path)) if classes is None else label_problems(frame, str(path), classes))
    for rule in (missing_file_problems, repeated_image_problems, patient_overlap_problems):
        raise_first(rule(frame, str(path)))
    return frame


def inspect_manifest(path: str | Path) -> tuple[pd.DataFrame, list[ColumnProblem]]:
    """Reads one manifest and collects its problems instead of raising them.

    Args:
        path: as for `read_manifest`.

    Returns:
        One row per image, as from `read_manifest` but for an index that numbers the data rows from 1 and an `age` of
        NaN where it is no number; and the cells that break the schema, none if all is well. Whether the files exist
        and the rows agree is not checked (`cxr_isnet.manifests.problems`).

    Raises:
        InputError: the table cannot be read, has no rows, or lacks a required column.
    """
    path = locate(path)
    if path.suffix.lower() in MAPPING_SUFFIXES:
        mapping = read_column_mapping(path)
        frame, root = mapping.apply(_read_table(mapping.table), str(path)), mapping.table.parent
    else:
        frame, root = match_columns(_read_table(path), MANIFEST_COLUMNS, path), path.parent
    if frame.empty:
        raise InputError(f"{path}: the table has no rows. Give at least one image")
    check_columns(frame, str(path))
    frame = frame.assign(**{column: "" for column in ("mask", "split") if column not in frame.columns})
    frame, problems = _with_years(frame, str(path))
    if "sex" in frame.columns:
        frame = frame.assign(sex=[sex(cell) or cell for cell in frame["sex"]])
    problems += schema_problems(frame, str(path))
    for column in ("image", "mask"):
        frame[column] = [find_file(root, cell) if cell else "" for cell in frame[column]]
    return frame, problems


def read_manifests(paths: Sequence[str | Path], *, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads several manifests as one. A patient is identified by site and patient id together.

    Args:
        paths: as for `read_manifest`.
        classes: labels that are allowed; None allows any.

    Returns:
        The rows in the order of the tables; cells of columns that a table lacks are "" (`age`: NaN).

    Raises:
        InputError: as `read_manifest`, and when an image or a patient's splits collide between tables.

    Example:
        >>> len(read_manifests(["hospital_a/manifest.csv"]))
        12
    """
    if not paths:
        raise InputError("no manifest was given. Name at least one table")
    frames = [_accepted(path, classes) for path in paths]
    frame = join_tables(paths, frames)
    names = " + ".join(str(path) for path in paths)
    for rule in (repeated_image_problems, patient_overlap_problems, *([spelling_problems] if classes is None else [])):
        raise_first(rule(frame, names))
    return frame.reset_index(drop=True)


def join_tables(paths: Sequence[str | Path], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The concatenated rows of several tables, indexed by table and row.

    Args:
        paths: names of the tables.
        frames: one per path, as `inspect_manifest` returns them.

    Returns:
        As the frames, with a `Place` as index; cells of columns that a table lacks are "" (`age`: NaN).
    """
    frame = pd.concat(frames, ignore_index=True)
    text = [column for column in frame.columns if column != "age"]
    frame[text] = frame[text].fillna("")
    places = [Place(str(path), int(row)) for path, part in zip(paths, frames, strict=True) for row in part.index]
    return frame.set_axis(pd.Index(places, dtype=object), axis="index")


def _read_table(path: Path) -> pd.DataFrame:
    """All cells as stripped text, "" where there is nothing; the index counts data rows from 1."""
    if not path.exists() and (command := how_to_build(path)):
        raise InputError(f"{path}: there is no such table (working directory {Path.cwd()}). Make it with {command}")
    return read_table(path)


def _with_years(frame: pd.DataFrame, table: str) -> tuple[pd.DataFrame, list[ColumnProblem]]:
    """The frame with `age` as a number, and the cells that are not numbers."""
    if "age" not in frame.columns:
        return frame, []
    years = to_numbers(frame["age"], table)
    wrong = frame.loc[years.isna() & (frame["age"] != ""), "age"]
    remedy = "give years, or leave it empty"
    problems = [ColumnProblem(table, "age", wrong, "is not a number", remedy)] if len(wrong) else []
    return frame.assign(age=years), problems
