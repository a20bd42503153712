"""Predictions of a model that the project does not know."""

import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.predictions_table import read_tables


@pytest.fixture
def theirs(tmp_path):
    """Three images of two patients: no site, label or model in the table, but all in a manifest beside it."""
    frame = pd.DataFrame(
        {
            "path": ["a.png", "x/b.png", str(tmp_path / "c.png")],
            "probability_normal": [0.2, 0.7, 0.5],
            "probability_tuberculosis": [0.8, 0.3, 0.5],
        }
    )
    manifest = pd.DataFrame(
        {
            "image": [str(tmp_path / name) for name in ("c.png", "a.png", "elsewhere/b.png")],
            "patient_id": ["7", "9", "9"],
            "site": "north",
            "label": ["normal", "tuberculosis", "normal"],
            "sex": ["F", "M", "M"],
        }
    )
    return frame, manifest, tmp_path / "theirs.csv"


def read(frame, file, manifest=None, classes=()):
    frame.to_csv(file, index=False)
    known, tables = read_tables({"theirs": str(file)}, classes, manifest)
    return known, tables["theirs"]


def test_classes_are_those_of_the_columns_and_the_manifest_fills_in_what_lacks(theirs):
    frame, manifest, file = theirs

    classes, table = read(frame, file, manifest)

    assert classes == ("normal", "tuberculosis")
    assert list(table["label"]) == ["tuberculosis", "normal", "normal"]  # by folder, by name, by path
    assert list(table["patient_id"]) == ["9", "9", "7"]
    assert list(table["sex"]) == ["M", "M", "F"]
    assert set(table["model_uri"]) == {str(file)}


def test_what_the_table_says_is_kept(theirs):
    frame, manifest, file = theirs

    _, table = read(frame.assign(site="south", label="normal", patient_id="1"), file, manifest)

    assert set(table["site"]) == {"south"}
    assert list(table["sex"]) == ["M", "M", "F"]


def test_an_image_that_the_manifest_lacks_is_named(theirs):
    frame, manifest, file = theirs

    with pytest.raises(InputError, match=r"images that the manifest lacks .*a.png.*patient_id, site, label"):
        read(frame, file, manifest.iloc[[0, 2]])


def test_a_name_that_two_images_share_is_not_taken_for_either(theirs):
    frame, manifest, file = theirs
    twin = manifest.iloc[[2]].assign(image="/other/b.png")

    with pytest.raises(InputError, match=r"x/b.png"):
        read(frame, file, pd.concat([manifest, twin]))


def test_without_a_manifest_the_missing_column_is_named(theirs):
    frame, _, file = theirs

    with pytest.raises(InputError, match=r"theirs.csv: column 'patient_id' is missing"):
        read(frame, file)


def test_a_table_without_probabilities_is_refused(theirs):
    frame, _, file = theirs

    with pytest.raises(InputError, match=r"fewer than two columns are named probability_<class>"):
        read(frame[["path"]], file)


def complete(frame):
    return frame.assign(site="north", label="normal", patient_id="1")


def test_tables_of_several_models_come_in_one_order(theirs):
    frame, _, file = theirs
    complete(frame).to_csv(file, index=False)
    complete(frame).iloc[::-1].to_csv(file.with_name("other.csv"), index=False)

    _, tables = read_tables({"a": str(file), "b": str(file.with_name("other.csv"))}, (), None)

    assert list(tables["a"]["path"]) == list(tables["b"]["path"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.iloc[:2], r"'a' and 'b' differ in 1 images"),
        (lambda frame: frame.assign(label=["normal", "tuberculosis", "normal"]), r"'label' differs from that of 'a'"),
    ],
)
def test_models_of_other_images_or_labels_cannot_be_compared(theirs, change, message):
    frame, _, file = theirs
    complete(frame).to_csv(file, index=False)
    change(complete(frame)).to_csv(file.with_name("other.csv"), index=False)

    with pytest.raises(InputError, match=message):
        read_tables({"a": str(file), "b": str(file.with_name("other.csv"))}, (), None)
