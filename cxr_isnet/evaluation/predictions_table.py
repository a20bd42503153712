"""The predictions table: one row per image with a probability per class. All that evaluation knows of a model.

Columns: `path`, `patient_id`, `site`, `label` (name of the class, "" when unknown), `probability_<class>` for every
class, `model_uri`; optionally `relevance_in_lung` (share in [0, 1], NaN where there is none), `relevance_reason` (why
there is none), `relevance_null` (the share that the same maps have mirrored, turned and shifted in the image),
`error` (why an image could not be predicted; its row counts in no number); any metadata.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_float_dtype

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import ColumnProblem, years
from cxr_isnet.tables import match_columns, read_table, to_numbers, write_table

_log = logging.getLogger(__name__)

PROBABILITY_PREFIX = "probability_"
RELEVANCE_COLUMN = "relevance_in_lung"
RELEVANCE_REASON_COLUMN = "relevance_reason"
RELEVANCE_NULL_COLUMN = "relevance_null"
ERROR_COLUMN = "error"
TEXT_COLUMNS = ("path", "patient_id", "site", "label", "model_uri")
OLDEST = 130
_FAILED = "failed_predictions"
SUM_TOLERANCE = 1e-3
_ROUNDED_TO = 2
"""Decimals that are enough: the rows then sum to 1 within half of the last one per class."""
_FROM_MANIFEST = ("patient_id", "site", "label")


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Names of the probability columns, in the order of the classes."""
    return [PROBABILITY_PREFIX + name for name in classes]


def check_predictions(frame: pd.DataFrame, classes: Sequence[str], *, source: str = "predictions") -> pd.DataFrame:
    """A checked copy of a predictions table.

    Args:
        frame: the table; extra columns are kept.
        classes: names of the classes, in the order of the network's outputs.
        source: name of the table in messages.

    Returns:
        The rows in the same order, index from 0; text columns as str ("" where empty), probabilities as
        float64, `age` in years, NaN where it is none.

    Raises:
        InputError: no rows; a column is missing; an empty path, patient or site; a path listed twice; a label
            outside `classes`; a probability that is no number in [0, 1]; a row that does not sum to 1. Rows of
            probabilities rounded to two decimals, which sum to 0.99 or 1.01, are divided by their sums.
    """
    _check_columns(frame, classes, source)
    frame = _without_failures(frame, source)
    checked = frame.copy().set_axis(range(1, len(frame) + 1), axis="index")
    for name in TEXT_COLUMNS:
        checked[name] = checked[name].astype("str").where(checked[name].notna(), "")
    _check_text(checked, classes, source)
    if "age" in checked.columns and not is_float_dtype(checked["age"]):
        checked["age"] = _years(checked["age"], source)
    for name in probability_columns(classes):
        checked[name] = _shares(checked[name], source, "give the softmax output of the class, from 0 to 1")
    checked = _summing_to_one(checked, classes, source)
    for name in (n for n in (RELEVANCE_COLUMN, RELEVANCE_NULL_COLUMN) if n in checked.columns):
        cells = checked[name]
        given = cells[cells.notna() & (cells.astype("str") != "")]
        remedy = "give the share of relevance inside the lungs, or leave it empty where there is no mask"
        checked[name] = _shares(given, source, remedy).reindex(checked.index)
    return checked.reset_index(drop=True)


def read_predictions(
    path: str | Path, classes: Sequence[str] = (), manifest: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Read and check a predictions table.

    Of two classes one probability column is enough: `probability_<class>`, or `probability` where `classes` are given,
    whose second it is.

    Args:
        path: the file, as `cxr_isnet.tables.read_table` reads it.
        classes: names of the classes, in the order of the network's outputs; empty takes the probability columns.
        manifest: where columns that the table lacks are looked up by image; None looks up nothing.

    Returns:
        As `check_predictions`; other metadata columns are text. `model_uri` is the file where it is lacking.

    Raises:
        InputError: the file cannot be read as a table, or as `check_predictions` and `with_manifest_columns`.
    """
    source = str(path)
    frame = _named(read_table(Path(path)), classes, source)
    if manifest is not None and "path" in frame.columns:
        frame = with_manifest_columns(frame, manifest, source)
    frame = _with_other_class(frame, classes, source)
    classes = classes or predicted_classes(frame, source)
    if "model_uri" not in frame.columns:
        frame = frame.assign(model_uri=source)
    return check_predictions(frame, classes, source=source)


def read_tables(
    paths: Mapping[str, str], classes: Sequence[str], manifest: pd.DataFrame | None
) -> tuple[tuple[str, ...], dict[str, pd.DataFrame]]:
    """Read the predictions of one or more models on the same images.

    Args:
        paths: name of the model to its table.
        classes: as of `read_predictions`; empty takes the probability columns of the first table.
        manifest: as of `read_predictions`.

    Returns:
        The classes, and each table as `read_predictions` reads it, rows in the order of the first.

    Raises:
        InputError: as `read_predictions`; tables of several models list other images, patients or labels.
    """
    tables: dict[str, pd.DataFrame] = {}
    for name, file in paths.items():
        tables[name] = read_predictions(file, classes, manifest)
        classes = classes or predicted_classes(tables[name], file)
    return tuple(classes), _in_one_order(tables)


def predicted_classes(frame: pd.DataFrame, source: str) -> tuple[str, ...]:
    """Classes of the probability columns, in their order; raises `InputError` for fewer than two."""
    names = tuple(c.removeprefix(PROBABILITY_PREFIX) for c in frame.columns if c.startswith(PROBABILITY_PREFIX))
    if len(names) < 2:
        raise InputError(
            f"{source}: fewer than two columns are named {PROBABILITY_PREFIX}<class> (found: {list(frame.columns)}). "
            "Give one per class, or name the classes; of two classes, the second is the one to find"
        )
    return names


def write_predictions(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a predictions table as CSV, whole or not at all; floats keep all their digits."""
    write_table(frame, Path(path))


def probabilities(frame: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Probabilities (N, C) float64 of a checked table, columns in the order of `classes`."""
    return np.asarray(frame[probability_columns(classes)], dtype=np.float64)


def label_indices(frame: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Labels (N,) int64 of a checked table as positions in `classes`; -1 where the label is unknown."""
    positions = {name: position for position, name in enumerate(classes)}
    return np.array([positions.get(name, -1) for name in frame["label"]], dtype=np.int64)


def failed_predictions(frame: pd.DataFrame) -> int:
    """How many images a checked table lacks because they could not be predicted."""
    return int(frame.attrs.get(_FAILED, 0))


def relevance_excess(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Of a checked table, share of the relevance in the lungs less that of the same maps elsewhere, (N,); NaN where
    there is none."""
    if not {RELEVANCE_COLUMN, RELEVANCE_NULL_COLUMN} <= set(frame.columns):
        return np.full(len(frame), np.nan)
    return (frame[RELEVANCE_COLUMN] - frame[RELEVANCE_NULL_COLUMN]).to_numpy(np.float64)


def _cure(missing: Sequence[str]) -> str:
    """Where columns come from that a program which predicts does not know, as the end of a sentence."""
    if set(missing) <= set(_FROM_MANIFEST):
        return ". `cxr-isnet evaluate` takes patient, site and label from a manifest of the same images (--manifest)"
    if all(column.startswith(PROBABILITY_PREFIX) for column in missing):
        return ". All tables must have the same classes"
    return ""


def _check_columns(frame: pd.DataFrame, classes: Sequence[str], source: str) -> None:
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise InputError(
            f"classes {list(classes)}: name two or more classes, each once, in brackets, as '[normal, ill]'"
        )
    wanted = [*TEXT_COLUMNS, *probability_columns(classes)]
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise InputError(
            f"{source}: column {missing[0]!r} is missing (also missing: {missing[1:]}; found: "
            f"{list(map(str, frame.columns))}). Add it; the table needs {wanted}{_cure(missing)}"
        )
    known = set(wanted)
    unknown = [name for name in frame.columns if str(name).startswith(PROBABILITY_PREFIX) and name not in known]
    if unknown:
        raise InputError(
            f"{source}: column {unknown[0]!r} belongs to none of the classes {list(classes)}. "
            "Name all classes of the model, or drop the column"
        )
    if frame.empty:
        raise InputError(f"{source}: the table has no rows. Give at least one image")


def _years(ages: pd.Series, source: str) -> pd.Series:
    """Ages in years; those that cannot be read are NaN and told, for they are needed for groups only."""
    text = ages.astype("str").where(ages.notna(), "").str.strip().str.replace(",", ".", regex=False)
    read = {cell: None if cell.startswith("-") else years(cell) for cell in text.unique()}
    found = text.map(read).astype(np.float64)
    found = found.where(found <= OLDEST)
    lost = text[found.isna() & ~text.str.casefold().isin(["", "nan", "none"])]
    if len(lost):
        _log.warning(
            "%s: column 'age' has %d of %d cells that are no age, the first in row %s; they count as unknown. Give "
            "years, or a number with its unit, as 18M",
            source, len(lost), len(ages), lost.index[0],
        )  # fmt: skip
    return found.astype(np.float64)


def _named(frame: pd.DataFrame, classes: Sequence[str], source: str) -> pd.DataFrame:
    """The table with the names of columns that are known, whatever their capitals and blanks."""
    prefix = PROBABILITY_PREFIX.rstrip("_")
    theirs = [re.sub(rf"(?i)^{prefix}[\s_-]+", PROBABILITY_PREFIX, column) for column in frame.columns]
    theirs = [re.sub(rf"^({PROBABILITY_PREFIX}\d+)\.0$", r"\1", column) for column in theirs]  # as of the label 1.0
    known = {*TEXT_COLUMNS, RELEVANCE_COLUMN, RELEVANCE_REASON_COLUMN, RELEVANCE_NULL_COLUMN, ERROR_COLUMN}
    known |= {"sex", "age", "view", "device", "manufacturer", prefix, *probability_columns(classes)}
    return match_columns(frame.set_axis(theirs, axis="columns"), sorted(known), source)


def _with_other_class(frame: pd.DataFrame, classes: Sequence[str], source: str) -> pd.DataFrame:
    """A table of two classes with one probability, and that of the other class, which is the rest to 1."""
    prefix = PROBABILITY_PREFIX.rstrip("_")
    given = [name for name in frame.columns if name.startswith(PROBABILITY_PREFIX)]
    if not given and prefix in frame.columns and len(classes) == 2:
        given = probability_columns(classes)[1:]
        frame = frame.rename(columns={prefix: given[0]})
    if len(given) != 1:
        return frame
    known = set(classes) or {*frame.get("label", pd.Series(dtype="str")), given[0].removeprefix(PROBABILITY_PREFIX)}
    others = probability_columns(sorted(known - {"", given[0].removeprefix(PROBABILITY_PREFIX)}))
    if len(others) != 1:
        return frame
    predicted = frame[frame[ERROR_COLUMN] == ""] if ERROR_COLUMN in frame.columns else frame
    rest = 1 - _shares(predicted[given[0]], source, "give the probability of the class, from 0 to 1")
    frame.insert(list(frame.columns).index(given[0]), others[0], rest.reindex(frame.index))
    return frame


def _without_failures(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The rows of the images that could be predicted."""
    if ERROR_COLUMN not in frame.columns:
        return frame
    errors = frame[ERROR_COLUMN]
    failed = errors.notna() & (errors.astype("str") != "")
    if failed.all():
        raise InputError(f"{source}: column '{ERROR_COLUMN}' says that no image could be predicted: {errors.iloc[0]}")
    if failed.any():
        _log.warning(
            "%s: %d of %d images could not be predicted and count in no number", source, failed.sum(), len(frame)
        )
    kept = frame[~failed]
    kept.attrs[_FAILED] = int(failed.sum())
    return kept


def _check_text(frame: pd.DataFrame, classes: Sequence[str], source: str) -> None:
    for column in ("path", "patient_id", "site"):
        empty = frame.loc[frame[column].str.strip() == "", column]
        if len(empty):
            raise InputError(str(ColumnProblem(source, column, empty, "is empty", "fill it in for every image")))
    twice = frame.loc[frame["path"].duplicated(keep=False), "path"]
    if len(twice):
        raise InputError(
            str(ColumnProblem(source, "path", twice, "lists an image more than once", "keep one row per image"))
        )
    unknown = frame.loc[~frame["label"].isin([*classes, ""]), "label"]
    if len(unknown):
        remedy = "correct the label, or leave it empty when it is unknown"
        raise InputError(str(ColumnProblem(source, "label", unknown, f"is none of {', '.join(classes)}", remedy)))


def _shares(column: pd.Series, source: str, remedy: str) -> pd.Series:
    numbers = to_numbers(column, source)
    wrong = column[~np.isfinite(numbers)]
    if len(wrong):
        raise InputError(str(ColumnProblem(source, str(column.name), wrong, "is not a finite number", remedy)))
    outside = numbers[(numbers < -SUM_TOLERANCE) | (numbers > 1 + SUM_TOLERANCE)]
    if len(outside):
        raise InputError(str(ColumnProblem(source, str(column.name), outside, "is outside [0, 1]", remedy)))
    return numbers


def _summing_to_one(frame: pd.DataFrame, classes: Sequence[str], source: str) -> pd.DataFrame:
    """The table as it is, or with rows divided by their sums where all probabilities are rounded."""
    columns = probability_columns(classes)
    values, sums = frame[columns], frame[columns].sum(axis="columns")
    decimals = next((n for n in range(_ROUNDED_TO, 5) if np.allclose(values, values.round(n), rtol=0, atol=1e-9)), 5)
    tolerance = max(SUM_TOLERANCE, len(columns) * 0.5 * 10**-decimals) + 1e-9
    wrong = sums[(sums - 1).abs() > tolerance]
    if len(wrong):
        remedy = "give probabilities of mutually exclusive classes, as a softmax gives them, with two decimals or more"
        raise InputError(str(ColumnProblem(source, ", ".join(columns), wrong, "does not sum to 1 in a row", remedy)))
    rounded = (sums - 1).abs() > SUM_TOLERANCE
    if rounded.any():
        _log.warning("%s: probabilities are rounded; %d rows are divided by their sums", source, rounded.sum())
        frame.loc[rounded, columns] = values[rounded].div(sums[rounded], axis="index")
    return frame


def with_manifest_columns(
    predictions: pd.DataFrame, manifest: pd.DataFrame, source: str = "predictions"
) -> pd.DataFrame:
    """The predictions with every column of the manifest that they lack, but for its files.

    Args:
        predictions: the table, by its column `path`.
        manifest: as `read_manifest` returns it.
        source: name of the table, which paths may be relative to.

    Raises:
        InputError: patient, site or label must come from the manifest, which lacks the image.
    """
    lacking = [c for c in manifest.columns if c not in ("image", "mask", "split") and c not in predictions.columns]
    needed = [column for column in _FROM_MANIFEST if column in lacking]
    rows = _rows_of_images(list(predictions["path"]), Path(source).parent, list(manifest["image"]))
    unknown = predictions.loc[[row is None for row in rows], "path"]
    if len(unknown) and needed:
        remedy = f"add the images to the manifest, or give {', '.join(needed)} in the predictions"
        raise InputError(str(ColumnProblem(source, "path", unknown, "lists images that the manifest lacks", remedy)))
    at = pd.Index([-1 if row is None else row for row in rows])
    found = manifest.reset_index(drop=True)[lacking].astype("object").reindex(at)
    return predictions.assign(**{column: found[column].fillna("").astype(str).to_numpy() for column in lacking})


def _rows_of_images(paths: list[str], folder: Path, images: list[str]) -> list[int | None]:
    """Row of the manifest of every path: by its text, by where it lies, or by a file name that none shares."""
    by_path = {os.path.abspath(image): row for row, image in enumerate(images)}
    names, asked = Counter(map(os.path.basename, images)), Counter(map(os.path.basename, paths))
    by_name = {os.path.basename(image): row for row, image in enumerate(images)}

    def row_of(path: str) -> int | None:
        for place in (os.path.abspath(path), os.path.abspath(folder / path)):
            if place in by_path:
                return by_path[place]
        name = os.path.basename(path)
        return by_name.get(name) if names[name] == 1 and asked[name] == 1 else None

    return [row_of(path) for path in paths]


def _in_one_order(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """All tables with the rows in the order of the first, so that models are compared on the same patients."""
    (first, reference), *others = tables.items()
    ordered = {first: reference}
    for name, table in others:
        if set(table["path"]) != set(reference["path"]):
            only = len(set(table["path"]) ^ set(reference["path"]))
            raise InputError(
                f"the predictions of {first!r} and {name!r} differ in {only} images. Give tables of the same images, "
                "or evaluate the models one by one"
            )
        table = table.set_index("path", drop=False).loc[list(reference["path"])].reset_index(drop=True)
        for column in _FROM_MANIFEST:
            other = table.loc[table[column] != reference[column], column]
            if len(other):
                remedy = f"make it agree with the table of {first!r}"
                problem = f"differs from that of {first!r}"
                raise InputError(str(ColumnProblem(f"predictions of {name!r}", column, other, problem, remedy)))
        ordered[name] = table
    return ordered
