"""Rules across the rows of a manifest. Each yields the problem that it finds, or nothing."""

import os
from collections.abc import Iterator, Sequence

import pandas as pd

from cxr_isnet.manifests.problems import ColumnProblem


def label_problems(frame: pd.DataFrame, table: str, classes: Sequence[str]) -> Iterator[ColumnProblem]:
    """Every label is one of `classes`."""
    unknown = frame.loc[~frame["label"].isin(list(classes)), "label"]
    if len(unknown):
        remedy = "correct the label, add it to the classes, or drop the rows"
        yield ColumnProblem(table, "label", unknown, f"is none of {', '.join(classes)}", remedy)


def missing_file_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """Every image and every mask that is named is a file."""
    for column in ("image", "mask"):
        paths = frame.loc[frame[column] != "", column]
        missing = paths[[not os.path.isfile(path) for path in paths]]
        if len(missing):
            remedy = "correct the path (it is relative to the table's folder), or drop the row"
            yield ColumnProblem(table, column, missing, "names a file that does not exist", remedy)


def repeated_image_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """No image is listed twice."""
    images = frame.loc[frame["image"] != "", "image"]
    again = images[images.duplicated(keep=False)].sort_values(kind="stable")
    if len(again):
        yield ColumnProblem(table, "image", again, "lists the same file more than once", "keep one row per image")


def torn_patient_problems(frame: pd.DataFrame, table: str) -> Iterator[ColumnProblem]:
    """All images of a patient, known by site and patient id, are in one split."""
    splits = frame[["site", "patient_id", "split"]].drop_duplicates()
    torn = splits[splits.duplicated(["site", "patient_id"], keep=False)].sort_values(["site", "patient_id"])
    if len(torn):
        remedy = "put all images of a patient into one split, or leave the whole column empty to have it filled"
        values = torn["patient_id"] + " in split '" + torn["split"] + "'"
        yield ColumnProblem(table, "split", values, "puts one patient into two splits", remedy)
