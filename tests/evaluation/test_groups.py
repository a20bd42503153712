import numpy as np
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.groups import MOST_GROUPS, UNKNOWN, groupings, with_age_bands
from cxr_isnet.evaluation.site import evaluate_site
from cxr_isnet.evaluation.thresholds import ARGMAX

from .conftest import THREE


def made(frame, columns=None):
    return groupings(frame, THREE, columns, resamples=50, seed=0, rule=ARGMAX)


def test_a_group_has_the_numbers_of_its_rows_alone(make_predictions):
    frame = make_predictions(sites=("north", "south"))

    (grouping,) = made(frame, ["site"])

    south = next(group for group in grouping.groups if group.group == "south")
    expected = evaluate_site(frame[frame["site"] == "south"], THREE, resamples=50)
    assert south.metrics["auc"] == expected.metrics["auc"]
    assert (south.n_images, south.n_patients) == (expected.n_images, expected.n_patients)


def test_the_worst_group_and_the_gap_are_reported(make_predictions):
    frame = make_predictions(sites=("north", "south"))

    (grouping,) = made(frame, ["site"])

    values = {group.group: group.metrics["auc"].estimate for group in grouping.groups}
    assert grouping.worst == min(values, key=values.get)
    assert grouping.gap == pytest.approx(max(values.values()) - min(values.values()))


def test_ages_come_in_bands_and_an_empty_band_is_undefined_with_a_count(make_predictions):
    frame = make_predictions().assign(age=[17.9] * 20 + [18.0] * 20 + [np.nan] * 20)

    (grouping,) = made(frame, ["age_band"])

    counts = {group.group: group.n_images for group in grouping.groups}
    assert counts == {"0-17": 20, "18-39": 20, "40-59": 0, "60-79": 0, "80+": 0, UNKNOWN: 20}
    empty = next(group for group in grouping.groups if group.group == "80+")
    assert np.isnan([estimate.estimate for estimate in empty.metrics.values()]).all()


def test_a_group_without_one_class_has_accuracy_only(make_predictions):
    frame = make_predictions().assign(sex=["F"] * 30 + ["M"] * 30)
    frame.loc[frame["sex"] == "M", "label"] = "covid"

    (grouping,) = made(frame, ["sex"])

    men = next(group for group in grouping.groups if group.group == "M")
    assert np.isnan([men.metrics["auc"].estimate, men.metrics["balanced_accuracy"].estimate]).all()
    assert np.isfinite(men.metrics["accuracy"].estimate)
    assert grouping.metric == "accuracy"


def test_usual_columns_that_tell_no_two_groups_apart_are_left_out(make_predictions):
    assert made(make_predictions().assign(sex="F")) == ()


def test_a_column_that_is_not_there_and_one_of_too_many_values_are_refused(make_predictions):
    with pytest.raises(InputError, match=r"names 'scanner', which is no column"):
        made(make_predictions(), ["scanner"])
    with pytest.raises(InputError, match=rf"'path' has 60 values, too many.*{MOST_GROUPS}"):
        made(make_predictions(), ["path"])


def test_the_table_without_ages_stays_as_it_is(make_predictions):
    assert "age_band" not in with_age_bands(make_predictions()).columns
