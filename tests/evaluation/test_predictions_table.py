import numpy as np
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.predictions_table import (
    check_predictions,
    label_indices,
    probabilities,
    read_predictions,
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
        ("label", "pneumonia", "'label' is none of normal, tuberculosis, covid .*row 3: 'pneumonia'"),
        ("path", "image_0.png", "'path' lists an image more than once .*row 1: 'image_0.png', row 3"),
        ("patient_id", "", "'patient_id' is empty .*row 3"),
        ("site", " ", "'site' is empty"),
    ],
)
def test_a_bad_cell_is_told_with_its_row(make_predictions, column, value, problem):
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
    with pytest.raises(InputError, match="name two or more classes"):
        check_predictions(make_predictions(), classes)


def test_an_empty_table_is_refused(make_predictions):
    with pytest.raises(InputError, match="has no rows"):
        check_predictions(make_predictions().iloc[:0], THREE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv: there is no such file"):
        read_predictions(tmp_path / "nowhere.csv", THREE)


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0 not a table")

    with pytest.raises(InputError, match=r"image.csv: not a readable table"):
        read_predictions(tmp_path / "image.csv", THREE)
