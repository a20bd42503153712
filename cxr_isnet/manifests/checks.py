"""Checks across the rows of a manifest. Each raises `InputError` with the rows at fault."""

import os
from collections.abc import Sequence

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.schema import column_problem


def check_labels(frame: pd.DataFrame, table: str, classes: Sequence[str]) -> None:
    """Every label is one of `classes`.

    Raises:
        InputError: names the rows with an unknown label.
    """
    unknown = frame.loc[~frame["label"].isin(list(classes)), "label"]
    if len(unknown):
        remedy = "correct the label, add it to the classes, or drop the rows"
        raise InputError(column_problem(table, "label", unknown, f"is none of {', '.join(classes)}", remedy))


def check_files_exist(frame: pd.DataFrame, table: str) -> None:
    """Every image and every mask that is named is a file.

    Raises:
        InputError: names the missing files.
    """
    for column in ("image", "mask"):
        paths = frame.loc[frame[column] != "", column]
        missing = paths[[not os.path.isfile(path) for path in paths]]
        if len(missing):
            remedy = "correct the path (it is relative to the table's folder), or drop the row"
            raise InputError(column_problem(table, column, missing, "names a file that does not exist", remedy))


def check_unique_images(frame: pd.DataFrame, table: str) -> None:
    """No image is listed twice.

    Raises:
        InputError: names the rows that share an image.
    """
    again = frame.loc[frame["image"].duplicated(keep=False), "image"].sort_values(kind="stable")
    if len(again):
        remedy = "keep one row per image"
        raise InputError(column_problem(table, "image", again, "lists the same file more than once", remedy))


def check_one_split_per_patient(frame: pd.DataFrame, table: str) -> None:
    """All images of a patient, known by site and patient id, are in one split.

    Raises:
        InputError: names the patients that are in two.
    """
    splits = frame[["site", "patient_id", "split"]].drop_duplicates()
    torn = splits[splits.duplicated(["site", "patient_id"], keep=False)].sort_values(["site", "patient_id"])
    if len(torn):
        remedy = "put all images of a patient into one split, or leave the whole column empty to have it filled"
        values = torn["patient_id"] + " in split '" + torn["split"] + "'"
        raise InputError(column_problem(table, "split", values, "puts one patient into two splits", remedy))
