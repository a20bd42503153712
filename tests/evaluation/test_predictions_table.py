import numpy as np
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.predictions_table import (
    check_predictions,
    failed_predictions,
    label_indices,
    probabilities,
    read_predictions,
    read_tables,
    write_predictions,
)

from .conftest import THREE


def test_a_good_table_keeps_its_rows_and_its_metadata(make_predictions):
    frame = make_predictions()

    checked = check_predictions(frame, THREE)

    assert list(checked["path"]) == list(frame["path"])
    assert set(checked["view"]) == {"PA"}


def test_the_given_table_is_left_as_it_was(make_predictions):
    frame = make_predictions()
    before = frame.copy()

    checked = check_predictions(frame, THREE)
    checked["label"] = ""

    pd.testing.assert_frame_equal(frame, before)


def test_a_table_read_back_equals_the_one_written(make_predictions, tmp_path):
    frame = check_predictions(make_predictions().assign(age=[np.nan] * 30 + [40.5] * 30), THREE)
    frame.loc[3, "relevance_in_lung"] = np.nan
    frame.loc[4, "label"] = ""

    write_predictions(frame, tmp_path / "predictions.csv")

    pd.testing.assert_frame_equal(read_predictions(tmp_path / "predictions.csv", THREE), frame)


def test_patient_ids_that_look_like_numbers_keep_their_zeros(make_predictions, tmp_path):
    write_predictions(make_predictions(), tmp_path / "predictions.csv")

    assert read_predictions(tmp_path / "predictions.csv", THREE)["patient_id"][0] == "0000"


def test_labels_become_positions_and_unknown_ones_minus_one(make_predictions):
    frame = make_predictions(3).assign(label=["covid", "", "normal"])

    assert label_indices(frame, THREE).tolist() == [2, -1, 0]


def test_probabilities_come_in_the_order_of_the_classes(make_predictions):
    frame = make_predictions(4)

    turned = probabilities(frame, THREE[::-1])

    np.testing.assert_array_equal(turned[:, ::-1], probabilities(frame, THREE))


@pytest.mark.parametrize("column", ["path", "patient_id", "site", "label", "model_uri", "probability_covid"])
def test_a_missing_column_is_named(make_predictions, column):
    with pytest.raises(InputError, match=f"theirs.csv: column '{column}' is missing.*Add it"):
        check_predictions(make_predictions().drop(columns=column), THREE, source="theirs.csv")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("probability_covid", np.nan, "column 'probability_covid' is not a finite number .*row 3"),
        ("probability_covid", np.inf, "is not a finite number"),
        ("probability_covid", 1.5, r"'probability_covid' is outside \[0, 1\] .*row 3: 1.5"),
        ("probability_covid", -0.5, r"outside \[0, 1\]"),
        ("relevance_in_lung", 1.5, r"'relevance_in_lung' is outside \[0, 1\]"),
        ("relevance_null", 1.5, r"'relevance_null' is outside \[0, 1\] .*row 3: 1.5"),
        ("label", "pneumonia", "'label' is none of normal, tuberculosis, covid .*row 3: 'pneumonia'"),
        ("path", "image_0.png", "'path' lists an image more than once .*row 1: 'image_0.png', row 3"),
        ("patient_id", "", "'patient_id' is empty .*row 3"),
        ("site", " ", "'site' is empty"),
    ],
)
def test_a_bad_cell_is_reported_with_its_row(make_predictions, column, value, problem):
    frame = make_predictions()
    frame.loc[2, column] = value

    with pytest.raises(InputError, match=problem):
        check_predictions(frame, THREE)


def test_probabilities_that_do_not_sum_to_one_are_refused(make_predictions):
    frame = make_predictions()
    frame.loc[0, ["probability_normal", "probability_tuberculosis", "probability_covid"]] = [0.2, 0.2, 0.2]

    with pytest.raises(InputError, match=r"does not sum to 1 in a row .*row 1: 0.6.*softmax"):
        check_predictions(frame, THREE)


def test_rounded_probabilities_are_taken(make_predictions):
    check_predictions(make_predictions().round({f"probability_{name}": 4 for name in THREE}), THREE)


def test_a_column_of_a_class_that_was_not_named_is_refused(make_predictions):
    with pytest.raises(InputError, match="'probability_covid' belongs to none of the classes"):
        check_predictions(make_predictions(), THREE[:2])


@pytest.mark.parametrize("classes", [["normal"], ["normal", "normal"], []])
def test_fewer_than_two_classes_are_refused(make_predictions, classes):
    with pytest.raises(InputError, match=r"name two or more classes, each once, in brackets"):
        check_predictions(make_predictions(), classes)


def test_an_empty_table_is_refused(make_predictions):
    with pytest.raises(InputError, match="has no rows"):
        check_predictions(make_predictions().iloc[:0], THREE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv: there is no such table"):
        read_predictions(tmp_path / "nowhere.csv", THREE)


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0 not a table")

    with pytest.raises(InputError, match=r"image.csv: not a readable table"):
        read_predictions(tmp_path / "image.csv", THREE)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_is_read_the_same_from_csv_and_parquet(make_predictions, tmp_path, suffix):
    frame = make_predictions().assign(age=[np.nan] * 30 + [40.5] * 30)
    frame.loc[3, "relevance_in_lung"] = np.nan
    frame.loc[4, "label"] = ""
    path = tmp_path / f"predictions{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)

    found = read_predictions(path)

    pd.testing.assert_frame_equal(found, check_predictions(frame, THREE), check_exact=True)


def test_ages_of_a_frame_are_read_as_those_of_a_file(make_predictions, tmp_path, caplog):
    written = ["063Y", "45", "18M", "", "old", "7,5"] * 10
    frame = make_predictions().assign(age=written, model_uri="")
    frame.to_csv(tmp_path / "p.csv", index=False)

    found = check_predictions(frame, THREE)["age"]

    assert list(found[:6]) == pytest.approx([63, 45, 1.5, np.nan, np.nan, 7.5], nan_ok=True)
    assert "column 'age' has 10 of 60 cells that are no age" in caplog.text
    pd.testing.assert_series_equal(found, read_predictions(tmp_path / "p.csv", THREE)["age"])


def test_images_that_could_not_be_predicted_are_left_out_with_a_warning(make_predictions, tmp_path, caplog):
    frame = make_predictions().assign(error="")
    failed = [f"probability_{name}" for name in THREE]
    frame.loc[[2, 5], [*failed, "relevance_in_lung"]] = np.nan
    frame.loc[[2, 5], "error"] = "not a readable image"
    write_predictions(frame, tmp_path / "predictions.csv")

    found = read_predictions(tmp_path / "predictions.csv", THREE)

    assert list(found["path"]) == [path for row, path in enumerate(frame["path"]) if row not in (2, 5)]
    assert "predictions.csv: 2 of 60 images could not be predicted and count in no number" in caplog.text


def test_a_table_of_failures_alone_is_refused(make_predictions):
    with pytest.raises(InputError, match="'error' says that no image could be predicted: not a readable image"):
        check_predictions(make_predictions().assign(error="not a readable image"), THREE)


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

    with pytest.raises(InputError, match=r"theirs.csv: column 'patient_id' is missing.*--manifest"):
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


def test_a_table_of_a_german_excel_is_read(make_predictions, tmp_path):
    frame = make_predictions()
    words = {"path": "Path", "patient_id": "Patient ID", "probability_covid": "Probability covid", "age": "Age"}
    theirs = frame.assign(age=40.5).rename(columns=words)
    theirs.to_csv(tmp_path / "theirs.csv", sep=";", decimal=",", index=False, encoding="utf-16")

    found = read_predictions(tmp_path / "theirs.csv")

    pd.testing.assert_frame_equal(found, check_predictions(frame.assign(age=40.5), THREE))


def test_probabilities_rounded_to_two_digits_are_divided_by_their_sums(theirs, caplog):
    frame, _, file = theirs
    rounded = complete(frame).assign(probability_normal=[0.21, 0.69, 0.5])

    _, table = read(rounded, file)

    np.testing.assert_allclose(table["probability_normal"], [0.21 / 1.01, 0.69 / 0.99, 0.5])
    np.testing.assert_allclose(probabilities(table, ("normal", "tuberculosis")).sum(axis=1), 1)
    assert "probabilities are rounded; 2 rows are divided by their sums" in caplog.text


@pytest.mark.parametrize("normal", [0.2101, 0.22, 0.17])  # more digits than the sum is exact to; more than rounding
def test_sums_that_rounding_does_not_explain_are_refused(theirs, normal):
    frame, _, file = theirs

    with pytest.raises(InputError, match="does not sum to 1 in a row"):
        read(complete(frame).assign(probability_normal=[normal, 0.7, 0.5]), file)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("probability_ill", ()), ("probability_ill", ("well", "ill")), ("Probability", ("well", "ill"))],
)
def test_one_probability_is_enough_for_two_classes(theirs, name, classes):
    frame, _, file = theirs
    binary = complete(frame).assign(label=["ill", "well", "ill"], error="")
    binary = binary.drop(columns="probability_normal").rename(columns={"probability_tuberculosis": name})

    found, table = read(binary, file, classes=classes)

    assert found == ("well", "ill")
    assert probabilities(table, found).tolist() == [[pytest.approx(1 - p), p] for p in (0.8, 0.3, 0.5)]


def test_labels_that_pandas_wrote_as_floats_are_the_classes_0_and_1(theirs):
    frame, _, file = theirs
    columns = {"probability_tuberculosis": "probability_1.0"}
    binary = complete(frame).assign(label=[1.0, 0.0, None]).drop(columns="probability_normal").rename(columns=columns)

    found, table = read(binary, file)

    assert found == ("0", "1")
    assert table["label"].tolist() == ["1", "0", ""]


def test_one_probability_of_several_classes_is_refused(theirs):
    frame, _, file = theirs
    frame = complete(frame).drop(columns="probability_normal").assign(label=["normal", "covid", "tuberculosis"])

    with pytest.raises(InputError, match=r"fewer than two columns are named probability_<class>.*name the classes"):
        read(frame, file)


def test_ages_in_medical_notation_are_read_and_the_loss_is_told(make_predictions, tmp_path, caplog):
    cells = ["45", "045Y", "18M", "3 weeks", "45 y", "10D", "old", "", "-5", "999"]
    make_predictions(10).assign(age=cells).to_csv(tmp_path / "a.csv", index=False)

    ages = read_predictions(tmp_path / "a.csv", THREE)["age"]

    assert ages.iloc[:6].tolist() == pytest.approx([45, 45, 1.5, 3 / 52.18, 45, 10 / 365.25], abs=0.01)
    assert ages.iloc[6:].isna().all()
    assert "3 of 10 cells that are no age, the first in row 7" in caplog.text


def test_images_that_could_not_be_predicted_are_counted(make_predictions):
    checked = check_predictions(make_predictions(10).assign(error=["broken", *[""] * 9]), THREE)

    assert failed_predictions(checked) == 1
    assert failed_predictions(check_predictions(checked.drop(columns="error"), THREE)) == 1
