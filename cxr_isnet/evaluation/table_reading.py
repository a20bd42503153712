"""Anybody's predictions tables, completed from a manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.predictions import PROBABILITY_PREFIX, check_predictions
from cxr_isnet.manifests.problems import ColumnProblem
from cxr_isnet.manifests.tables import read_text_table

_FROM_MANIFEST = ("patient_id", "site", "label")


def read_tables(
    paths: Mapping[str, str], classes: Sequence[str], manifest: pd.DataFrame | None
) -> tuple[tuple[str, ...], dict[str, pd.DataFrame]]:
    """Read the predictions of one or more models.

    Args:
        paths: name of the model to its table, CSV or Parquet.
        classes: names of the classes, in order; none takes the probability columns of the first table.
        manifest: where columns that a table lacks are looked up by image; None looks up nothing.

    Returns:
        The classes, and each table checked as by `check_predictions`. `model_uri` is the file where it is lacking.

    Raises:
        InputError: a table cannot be read or used; an image of it is not in the manifest although a column must come
            from there; tables of several models list other images, patients or labels.
    """
    known = tuple(classes)
    tables: dict[str, pd.DataFrame] = {}
    for name, file in paths.items():
        frame = read_text_table(Path(file))
        known = known or _classes_of(frame, file)
        if manifest is not None and "path" in frame.columns:
            frame = with_manifest_columns(frame, manifest, file)
        if "model_uri" not in frame.columns:
            frame["model_uri"] = file
        if "age" in frame.columns:
            frame["age"] = pd.to_numeric(frame["age"], errors="coerce").astype(float)
        tables[name] = check_predictions(frame, known, source=file)
    return known, _in_one_order(tables)


def _classes_of(frame: pd.DataFrame, file: str) -> tuple[str, ...]:
    names = tuple(c.removeprefix(PROBABILITY_PREFIX) for c in frame.columns if c.startswith(PROBABILITY_PREFIX))
    if len(names) < 2:
        raise InputError(
            f"{file}: fewer than two columns are named {PROBABILITY_PREFIX}<class> (found: {list(frame.columns)}). "
            "Give one per class; of two classes, the second is the one to find"
        )
    return names


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
                "or judge the models one by one"
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
