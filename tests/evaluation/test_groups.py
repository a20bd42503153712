import numpy as np
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.groups import MOST_GROUPS, UNKNOWN, _at_level, _gap, groupings, with_age_bands
from cxr_isnet.evaluation.interval import score_interval
from cxr_isnet.evaluation.metrics import Scale
from cxr_isnet.evaluation.site import evaluate_site
from cxr_isnet.evaluation.thresholds import ARGMAX

from .conftest import THREE


def made(frame, columns=None):
    return groupings(frame, THREE, columns, resamples=50, seed=0, rule=ARGMAX)[0]


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
    assert grouping.gap.estimate == pytest.approx(max(values.values()) - min(values.values()))


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


def test_more_hospitals_or_devices_than_can_be_shown_are_skipped_with_the_reason(make_predictions):
    frame = make_predictions(120).assign(device=[f"device {n}" for n in range(120)], sex=["F", "M"] * 60)

    found, skipped = groupings(frame, THREE, None, resamples=20, seed=0, rule=ARGMAX)

    assert [grouping.column for grouping in found] == ["sex"]
    assert skipped == {"device": f"120 values, too many to group by; at most {MOST_GROUPS}"}


def test_spellings_of_one_group_are_one_group(make_predictions):
    frame = make_predictions(60).assign(
        sex=["F", "f", "Female", "M", "male ", "weiblich"] * 10, view=["PA", "pa", "AP", "AP ", "AP", ""] * 10
    )

    by_sex, by_view = made(frame, ["sex", "view"])

    assert {group.group: group.n_images for group in by_sex.groups} == {"F": 40, "M": 20}
    assert {group.group: group.n_images for group in by_view.groups} == {"AP": 30, "PA": 20, UNKNOWN: 10}


def test_a_site_that_is_known_already_is_not_taken_for_a_group_of_more_rows(make_predictions):
    frame = make_predictions(sites=("north", "North"))
    known = {"north": evaluate_site(frame[frame["site"] == "north"], THREE, resamples=50)}

    ((grouping,), _) = groupings(frame, THREE, ["site"], resamples=50, seed=0, rule=ARGMAX, sites=known)

    (group,) = grouping.groups
    assert group.n_images == len(frame) > known["north"].n_images


def test_the_interval_of_the_gap_holds_the_true_one_although_the_worst_was_chosen():
    """Four groups that do not differ: the worst and the best of them seem to."""
    generator = np.random.default_rng(0)
    gaps, worst = [], []
    for _ in range(300):
        hits = generator.binomial(60, 0.8, size=4) / 60
        values = [score_interval(share, np.sqrt(share * (1 - share) / 60), 60) for share in hits]
        gaps.append(_gap(values, Scale.SHARE))
        worst.append(_at_level(min(values, key=lambda found: found.estimate), Scale.SHARE, 4))

    assert np.mean([gap.estimate for gap in gaps]) > 0.05
    assert np.mean([gap.low == 0 for gap in gaps]) > 0.95
    assert np.mean([found.low <= 0.8 <= found.high for found in worst]) > 0.95
