"""How a model performs in groups of patients: by any column, age in bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import group_metrics
from cxr_isnet.evaluation.site import evaluate_site
from cxr_isnet.evaluation.thresholds import DecisionRule

USUAL_GROUPS = ("sex", "age_band", "view", "device", "manufacturer", "site")
AGE_BANDS = (0, 18, 40, 60, 80)
UNKNOWN = "unknown"
MOST_GROUPS = 50
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
        gap: how far the worst group is from the best; NaN then.
    """

    column: str
    groups: tuple[GroupResult, ...]
    metric: str
    worst: str
    gap: float


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
) -> tuple[Grouping, ...]:
    """Results by group, a grouping per column.

    Args:
        frame: a checked predictions table.
        classes: names of the classes.
        columns: to group by, `age_band` too; None takes those of `USUAL_GROUPS` that tell two groups apart.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        rule: from probabilities to the class that is predicted.

    Raises:
        InputError: there is no such column, or it has more than `MOST_GROUPS` values.
    """
    frame = with_age_bands(frame)
    if columns is None:
        columns = [name for name in USUAL_GROUPS if name in frame.columns and _values(frame, name)[0].nunique() > 1]
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
        results = [_evaluate_group(frame[values == name], name, classes, resamples, seed, rule) for name in names]
        found.append(_grouping(column, results))
    return tuple(found)


def _values(frame: pd.DataFrame, column: str) -> tuple[pd.Series[str], list[str]]:
    """The group of every image, and the names of the groups: of age, also those that no image is in."""
    values = frame[column].astype("str").where(frame[column].notna(), "").str.strip()
    values = values.where(values != "", UNKNOWN)
    names = sorted(set(values) - {UNKNOWN}) if column != "age_band" else age_band_names()
    return values, names + [UNKNOWN] * bool((values == UNKNOWN).any())


def _evaluate_group(
    frame: pd.DataFrame, name: str, classes: Sequence[str], resamples: int, seed: int, rule: DecisionRule
) -> GroupResult:
    if frame.empty:
        return GroupResult(name, 0, 0, {metric.name: _UNDEFINED for metric in group_metrics()})
    result = evaluate_site(frame, classes, resamples=resamples, seed=seed, rule=rule)
    lacking = len(result.classes_present) < len(classes)
    shown = {
        metric.name: _UNDEFINED if lacking and metric.needs_every_class else result.metrics[metric.name]
        for metric in group_metrics()
    }
    return GroupResult(name, result.n_labelled, result.n_patients, shown)


def _grouping(column: str, results: Sequence[GroupResult]) -> Grouping:
    for metric in group_metrics():
        values = {r.group: r.metrics[metric.name].estimate for r in results}
        defined = {group: value for group, value in values.items() if np.isfinite(value)}
        if len(defined) > 1:
            sign = 1 if metric.greater_is_better else -1
            worst = min(defined, key=lambda group: sign * defined[group])
            best = max(sign * value for value in defined.values())
            return Grouping(column, tuple(results), metric.name, worst, best - sign * defined[worst])
    return Grouping(column, tuple(results), "", "", float("nan"))
