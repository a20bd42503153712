"""Reading manifests: from files to a checked frame with absolute paths."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.checks import (
    check_files_exist,
    check_labels,
    check_one_split_per_patient,
    check_unique_images,
)
from cxr_isnet.manifests.recipes import read_recipe
from cxr_isnet.manifests.schema import check_schema, column_problem

RECIPE_SUFFIXES = (".yaml", ".yml")
TABLE_SUFFIXES = (".csv", ".parquet")


def read_manifest(path: str | Path, *, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Read and check one manifest.

    Args:
        path: a CSV or Parquet table, or a recipe (YAML) over another table.
        classes: labels that are allowed; None allows any.

    Returns:
        One row per image, index from 0. `image` and `mask` are absolute paths, `mask` is "" where there is
        none; `age` is float with NaN where unknown; `split`, always present, is "" where not decided. All
        else is text.

    Raises:
        InputError: the table cannot be read or breaks a rule of the schema; a file is missing; an image is
            listed twice; a patient is in two splits.
    """
    path = Path(path)
    if path.suffix.lower() in RECIPE_SUFFIXES:
        recipe = read_recipe(path)
        frame = recipe.apply(_read_table(recipe.table), str(path))
        root = recipe.table.parent
    else:
        frame, root = _read_table(path), path.parent
    if frame.empty:
        raise InputError(f"{path}: the table has no rows. Give at least one image")
    frame = _complete(frame, str(path))
    check_schema(frame, str(path))
    for column in ("image", "mask"):
        frame[column] = [os.path.abspath(root / cell) if cell else "" for cell in frame[column]]
    if classes is not None:
        check_labels(frame, str(path), classes)
    check_files_exist(frame, str(path))
    check_unique_images(frame, str(path))
    check_one_split_per_patient(frame, str(path))
    return frame.reset_index(drop=True)


def read_manifests(paths: Sequence[str | Path], *, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Read several manifests as one. A patient is known by site and patient id together.

    Args:
        paths: as for `read_manifest`.
        classes: labels that are allowed; None allows any.

    Returns:
        The rows in the order of the tables; cells of columns that a table lacks are "" (`age`: NaN).

    Raises:
        InputError: as `read_manifest`, and when an image or a patient's splits collide between tables.
    """
    if not paths:
        raise InputError("no manifest was given. Name at least one table")
    frames = [read_manifest(path, classes=classes) for path in paths]
    frame = pd.concat(frames, ignore_index=True)
    text = [column for column in frame.columns if column != "age"]
    frame[text] = frame[text].fillna("")
    names = " + ".join(str(path) for path in paths)
    numbered = frame.set_axis(_places(paths, frames), axis="index")
    check_unique_images(numbered, names)
    check_one_split_per_patient(numbered, names)
    return frame


def _places(paths: Sequence[str | Path], frames: Sequence[pd.DataFrame]) -> list[str]:
    """For errors: which row of which table."""
    return [f"{row + 1} of {path}" for path, frame in zip(paths, frames, strict=True) for row in frame.index]


def _read_table(path: Path) -> pd.DataFrame:
    """All cells as stripped text, "" where there is nothing; the index counts data rows from 1."""
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise InputError(f"{path}: a manifest ends in .csv, .parquet or, for a recipe, .yaml; not in {suffix!r}")
    try:
        if suffix == ".csv":
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        else:
            frame = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such table. Correct the path (working directory {Path.cwd()})"
        ) from error
    except (OSError, ValueError) as error:  # pandas and pyarrow: text that does not parse or decode
        raise InputError(f"{path}: not a readable table: {error}. Save it as UTF-8 CSV or Parquet") from error
    text = pd.DataFrame({str(name): _as_text(frame[name]) for name in frame.columns})
    return text.set_axis(range(1, len(text) + 1), axis="index")


def _as_text(column: pd.Series) -> pd.Series:
    return column.astype("str").where(column.notna(), "").str.strip()


def _complete(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Add `mask` and `split` where a table lacks them, and read `age` as a number."""
    frame = frame.assign(**{column: "" for column in ("mask", "split") if column not in frame.columns})
    if "age" in frame.columns:
        years = pd.to_numeric(frame["age"], errors="coerce").astype(float)
        wrong = frame.loc[years.isna() & (frame["age"] != ""), "age"]
        if len(wrong):
            raise InputError(column_problem(table, "age", wrong, "is not a number", "give years, or leave it empty"))
        frame["age"] = years
    return frame
