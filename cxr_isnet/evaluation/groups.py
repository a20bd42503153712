"""How a model performs in groups of patients: by any column, age in bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.interval import (
    Interval,
    IntervalMethod,
    difference_of_intervals,
    score_interval,
    student_interval,
)
from cxr_isnet.evaluation.metrics import Scale, group_metrics
from cxr_isnet.evaluation.site import SiteResult, evaluate_checked
from cxr_isnet.evaluation.thresholds import DecisionRule

USUAL_GROUPS = ("sex", "age_band", "view", "device", "manufacturer", "site")
AGE_BANDS = (0, 18, 40, 60, 80)
UNKNOWN = "unknown"
MOST_GROUPS = 50
_SEXES = {
    **dict.fromkeys(["f", "female", "w", "woman", "weiblich", "femme", "féminin", "mujer", "femenino"], "F"),
    **dict.fromkeys(["m", "male", "man", "männlich", "homme", "masculin", "hombre", "masculino"], "M"),
    **dict.fromkeys(["o", "other", "d", "divers", "diverse", "x"], "O"),
    **dict.fromkeys(["u", "unknown"], UNKNOWN),
}
_UNDEFINED = Interval(np.nan, np.nan, np.nan, IntervalMethod.BCA, 0)


@dataclass(frozen=True)
class GroupResult:
    """One group.

    Attributes:
        group: value of the column; `UNKNOWN` where the cell is empty.
        n_images: images with a label.
        n_patients: patients.
        metrics: name of a metric that is shown in groups to its interval; NaN where the group is empty, or lacks a
            class and the metric needs every class.
    """

    group: str
    n_images: int
    n_patients: int
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class Grouping:
    """All groups of one column.

    Attributes:
        column: what the groups are made by.
        groups: in the order of their names.
        metric: the first of the metrics that two groups have; "" when there is none.
        worst: the group with the worst value of it, of those that have it; "" when there are fewer than two.
        worst_value: that value; being the worst of several, its interval is that of one of so many tests (Bonferroni).
        gap: how far the worst group is from the best, with the interval in which the largest true difference of two
            groups lies, at a level that holds for all pairs together: never below 0. NaN without two groups.
    """

    column: str
    groups: tuple[GroupResult, ...]
    metric: str
    worst: str
    worst_value: Interval
    gap: Interval


def with_age_bands(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with `age_band` made of `age`, where there is one."""
    if "age" not in frame.columns or "age_band" in frame.columns:
        return frame
    return frame.assign(age_band=age_bands(frame["age"]))


def age_bands(ages: pd.Series[float]) -> pd.Series[str]:
    """The band of every age in years, from its lower end to below the upper; "" where the age is unknown."""
    bands = pd.cut(ages.astype(float), [*AGE_BANDS, np.inf], right=False, labels=age_band_names())
    return bands.astype("object").where(bands.notna(), "")


def age_band_names() -> list[str]:
    """Names of the bands, as `18-39`."""
    return [f"{low}-{high - 1}" for low, high in pairwise(AGE_BANDS)] + [f"{AGE_BANDS[-1]}+"]


def groupings(
    frame: pd.DataFrame,
    classes: Sequence[str],
    columns: Sequence[str] | None,
    *,
    resamples: int,
    seed: int,
    rule: DecisionRule,
    sites: Mapping[str, SiteResult] | None = None,
) -> tuple[tuple[Grouping, ...], dict[str, str]]:
    """Results by group, a grouping per column; and of the usual columns those that were skipped, with the reason.

    Args:
        frame: a checked predictions table.
        classes: names of the classes.
        columns: to group by, `age_band` too; None takes those of `USUAL_GROUPS` that tell two groups apart.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        rule: from probabilities to the class that is predicted.
        sites: what `evaluate_checked` found with these settings of all rows of a site, which is not done again.

    Raises:
        InputError: there is no such column, or it was asked for and has more than `MOST_GROUPS` values.
    """
    frame, skipped = with_age_bands(frame), {}
    if columns is None:
        there = {name: _values(frame, name)[0].nunique() for name in USUAL_GROUPS if name in frame.columns}
        many = f"values, too many to group by; at most {MOST_GROUPS}"
        skipped = {name: f"{count} {many}" for name, count in there.items() if count > MOST_GROUPS}
        columns = [name for name, count in there.items() if 1 < count <= MOST_GROUPS]
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"groups names {missing[0]!r}, which is no column of the predictions (found: {list(frame.columns)}). "
            "Add the column there or to the manifest"
        )
    found = []
    for column in columns:
        values, names = _values(frame, column)
        if len(names) > MOST_GROUPS:
            raise InputError(f"column {column!r} has {len(names)} values, too many to group by; at most {MOST_GROUPS}")
        known = (sites or {}) if column == "site" else {}
        results = []
        for name in names:
            rows, result = frame[values == name], known.get(name)
            if len(rows) and (result is None or result.n_images != len(rows)):
                result = evaluate_checked(rows, classes, resamples=resamples, seed=seed, rule=rule)
            results.append(_of_group(name, result, len(classes)))
        found.append(_grouping(column, results))
    return tuple(found), skipped


def _values(frame: pd.DataFrame, column: str) -> tuple[pd.Series[str], list[str]]:
    """The group of every image, and the names of the groups: of age, also those that no image is in.

    Spellings that differ in capitals and blanks only are one group, by the name that most images have; so are the words
    for a sex.
    """
    values = frame[column].astype("str").where(frame[column].notna(), "").str.strip()
    alike = values.str.casefold().str.replace(r"\s+", " ", regex=True)
    if column == "sex":
        alike = alike.map(lambda word: _SEXES.get(word, word))
    counts = pd.DataFrame({"alike": alike, "value": values}).value_counts(sort=True).reset_index()
    names_of = counts.drop_duplicates("alike").set_index("alike")["value"].to_dict()
    if column == "sex":
        names_of |= {word: word for word in set(_SEXES.values())}
    values = alike.map(names_of)
    values = values.where(~alike.isin(["", UNKNOWN, "nan", "none"]), UNKNOWN)
    names = sorted(set(values) - {UNKNOWN}) if column != "age_band" else age_band_names()
    return values, names + [UNKNOWN] * bool((values == UNKNOWN).any())


def _of_group(name: str, result: SiteResult | None, n_classes: int) -> GroupResult:
    """What is shown of a group; None is an empty one."""
    if result is None:
        return GroupResult(name, 0, 0, {metric.name: _UNDEFINED for metric in group_metrics()})
    lacking = len(result.classes_present) < n_classes
    shown = {
        metric.name: _UNDEFINED if lacking and metric.needs_every_class else result.metrics[metric.name]
        for metric in group_metrics()
    }
    return GroupResult(name, result.n_labelled, result.n_patients, shown)


def _grouping(column: str, results: Sequence[GroupResult]) -> Grouping:
    for metric in group_metrics():
        values = {r.group: r.metrics[metric.name] for r in results if np.isfinite(r.metrics[metric.name].estimate)}
        if len(values) > 1:
            sign = 1 if metric.greater_is_better else -1
            worst = min(values, key=lambda group: sign * values[group].estimate)
            value = _at_level(values[worst], metric.scale, len(values))
            return Grouping(
                column, tuple(results), metric.name, worst, value, _gap(list(values.values()), metric.scale)
            )
    return Grouping(column, tuple(results), "", "", _UNDEFINED, _UNDEFINED)


def _at_level(found: Interval, scale: Scale, tests: int) -> Interval:
    """The number with the interval that holds as one of so many (Bonferroni)."""
    interval_of = score_interval if scale is Scale.SHARE else student_interval
    error = np.nan if found.standard_error is None else found.standard_error
    wider = interval_of(found.estimate, error, found.patients or 0, 1 - 0.05 / tests)
    return replace(wider, method=IntervalMethod.SIMULTANEOUS, approximate=found.approximate)


def _gap(values: Sequence[Interval], scale: Scale) -> Interval:
    pairs = len(values) * (len(values) - 1) // 2
    wider = [_at_level(found, scale, pairs) for found in values]
    estimates = [found.estimate for found in values]
    differences = [difference_of_intervals(a, b) for a, b in permutations(wider, 2)]
    ends = [(found.low, found.high) for found in differences if np.isfinite(found.low)]
    low, high = (max(0.0, *(end)) for end in zip(*ends, strict=True)) if ends else (np.nan, np.nan)
    approximate = any(found.approximate for found in values) or len(ends) < len(differences)
    return Interval(max(estimates) - min(estimates), low, high, IntervalMethod.SIMULTANEOUS, approximate=approximate)
