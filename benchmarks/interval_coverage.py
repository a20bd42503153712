"""How often the 95% intervals of an evaluation cover the truth: simulated hospitals of few patients.

    python benchmarks/interval_coverage.py

Hospitals of 60 and 200 patients, of whom half or 15% are ill, with 1 to 4 images each, alike in label and correlated in
score. The truth is that of a hospital of 200,000 patients. For every number that is printed with an interval: the share
of the repeats in which the interval held it, of those with an interval; `~` where it was marked as approximate in more
than half of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxr_isnet.evaluation import DecisionRule, EvaluatedImages, Interval, SiteResult, metric_families
from cxr_isnet.evaluation.bootstrap import PatientBootstrap, patient_numbers
from cxr_isnet.evaluation.calibration import decision_curve
from cxr_isnet.evaluation.calibration_error import ece_interval
from cxr_isnet.evaluation.delong import correlated_aucs
from cxr_isnet.evaluation.interval import FEW_PATIENTS, IntervalMethod
from cxr_isnet.evaluation.metrics import compared_metrics
from cxr_isnet.evaluation.model_comparison import paired_differences
from cxr_isnet.evaluation.model_evaluation import drop
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities
from cxr_isnet.evaluation.ranking import roc_band
from cxr_isnet.evaluation.site import evaluate_checked
from cxr_isnet.evaluation.thresholds import cross_fitted_decisions, frozen_rule

CLASSES = ("normal", "tuberculosis")
SETTINGS = ((60, 0.5), (60, 0.15), (200, 0.5), (200, 0.15))
WIDELY = (0.93, 0.97)
WHOLE_EVERY = 5
"""Comparisons of models and internal minus external are made in every fifth repeat only: they cost four times as
much as all else."""


def hospital(generator: np.random.Generator, patients: int, prevalence: float, name: str) -> list[pd.DataFrame]:
    """Predictions of two models on the same images; the second model's scores are noisier."""
    ill = generator.random(patients) < prevalence
    patient = np.repeat(np.arange(patients), generator.integers(1, 5, size=patients))
    signal = 1.5 * (ill[patient] - 0.5) + 0.6 * generator.normal(size=patients)[patient]
    score = signal + 0.8 * generator.normal(size=len(patient))
    tables = []
    for shown in (score, score + 0.8 * generator.normal(size=len(patient))):
        chance = expit(1.3 * shown + logit(prevalence))
        tables.append(
            pd.DataFrame(
                {
                    "path": [f"{number}.png" for number in range(len(patient))],
                    "patient_id": [f"{name} {number}" for number in patient],
                    "site": name,
                    "label": np.where(ill[patient], *reversed(CLASSES)),
                    "model_uri": "",
                    "probability_normal": 1 - chance,
                    "probability_tuberculosis": chance,
                }
            )
        )
    return tables


def truth(table: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Every metric of a hospital so large that its numbers are those of the population."""
    labels, scores = label_indices(table, CLASSES), probabilities(table, CLASSES)
    decisions = DecisionRule(threshold).decide(scores)
    images = EvaluatedImages(CLASSES, labels, scores, decisions, np.full(len(table), np.nan), {})
    everyone = np.ones((1, len(table)))
    found = {
        name: float(value)
        for family in metric_families(images)
        for name, value in zip(family.names, family(everyone)[0], strict=True)
    }
    curve = decision_curve(labels == 1, scores[:, 1])
    found["net benefit"] = curve.model[curve.thresholds.index(threshold)]
    found["DeLong AUC"] = found["auc"]
    once = PatientBootstrap(np.arange(len(table)), resamples=1)
    band = roc_band(labels == 1, labels == 0, scores[:, 1], once)
    return found | {"ROC band at 80%": band.sensitivity[band.specificity.index(0.8)]}


def ece_intervals(generator: np.random.Generator, patients: int, prevalence: float) -> Iterator[tuple[str, Interval]]:
    """That of the ECE alone, of a study that `intervals` would draw first; a thousandth of its time."""
    table = hospital(generator, patients, prevalence, "external")[0]
    ill, numbers = label_indices(table, CLASSES) == 1, patient_numbers(table)
    smallest = min(len(np.unique(numbers[rows])) for rows in (ill, ~ill))
    found = ece_interval(ill, probabilities(table, CLASSES)[:, 1], numbers, smallest)
    yield f"ece of {CLASSES[1]}", replace(found, approximate=smallest < FEW_PATIENTS)


def intervals(
    generator: np.random.Generator, patients: int, prevalence: float, resamples: int, *, whole: bool
) -> Iterator[tuple[str, Interval]]:
    """Every printed interval of one simulated study: an external hospital; and, of a whole study, a second model and
    in-domain validation."""
    external = hospital(generator, patients, prevalence, "external")
    validation = hospital(generator, patients, prevalence, "internal")[0]
    if min(table["label"].nunique() for table in (external[0], validation)) < 2:
        return
    rule = DecisionRule(prevalence)

    def evaluated(table: pd.DataFrame, **given: object) -> SiteResult:
        return evaluate_checked(table, CLASSES, resamples=resamples, seed=0, **given)  # type: ignore[arg-type]

    first = evaluated(external[0], rule=rule)
    yield from first.metrics.items()
    for name, metrics in first.by_class.items():
        yield from ((f"{metric} of {name}", found) for metric, found in metrics.items())
    labels, scores = (get(external[0], CLASSES) for get in (label_indices, probabilities))
    numbers = patient_numbers(external[0])
    curve = decision_curve(labels == 1, scores[:, 1], numbers)
    at = curve.thresholds.index(prevalence)
    yield "net benefit", Interval(curve.model[at], curve.low[at], curve.high[at], IntervalMethod.STUDENT)
    band = roc_band(
        labels == 1, labels == 0, scores[:, 1], PatientBootstrap.of(external[0], resamples=min(resamples, 400))
    )
    at = band.specificity.index(0.8)
    yield (
        "ROC band at 80%",
        Interval(band.sensitivity[at], band.low[at], band.high[at], IntervalMethod.SCORE, approximate=band.approximate),
    )
    both = [probabilities(table, CLASSES)[:, 1] for table in external]
    areas = correlated_aucs(labels == 1, labels == 0, both, numbers)
    yield "DeLong AUC", areas.area(0)
    if not whole:
        return
    yield "DeLong AUC, first minus second", areas.difference(0, 1).difference
    for name, found in paired_differences(first, evaluated(external[1], rule=rule)).items():
        yield f"{name}, first minus second", found
    inside, seen = label_indices(validation, CLASSES), probabilities(validation, CLASSES)
    fitted = frozen_rule(inside, seen, CLASSES, sensitivity=None, source="")
    decisions = cross_fitted_decisions(inside, seen, CLASSES, patient_numbers(validation), sensitivity=None)
    internal, outside = evaluated(validation, decisions=decisions), evaluated(external[0], rule=fitted)
    for metric in compared_metrics():
        yield f"{metric.name}, internal minus external", drop(metric, internal, outside)


def coverage(
    repeats: int, resamples: int, seed: int, patients: int, prevalence: float, *, only_ece: bool = False
) -> dict[str, tuple[float, float]]:
    """Name of a number to the share of intervals that hold the truth, and the share that is marked as approximate."""
    generator = np.random.default_rng([seed, patients, round(100 * prevalence)])
    large = hospital(np.random.default_rng(seed + 1), 200_000, prevalence, "large")
    true = truth(large[0], prevalence)
    other = truth(large[1], prevalence)
    true |= {f"{name}, first minus second": true[name] - other[name] for name in (*other, "auc")}
    true |= {f"{name}, internal minus external": 0.0 for name in other}
    held: Mapping[str, list[tuple[bool, bool]]] = defaultdict(list)
    for repeat in range(repeats):
        whole = repeat % WHOLE_EVERY == 0
        of_one = (
            ece_intervals(generator, patients, prevalence)
            if only_ece
            else intervals(generator, patients, prevalence, resamples, whole=whole)
        )
        for name, found in of_one:
            if np.isfinite(found.low) and np.isfinite(true[name]):
                held[name].append((found.low - 1e-9 <= true[name] <= found.high + 1e-9, found.approximate))
    return {name: tuple(np.mean(values, axis=0)) for name, values in held.items()}  # type: ignore[misc]


def main() -> None:
    """Prints a Markdown table: a row for every number, a column for every kind of hospital."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-ece", action="store_true", help="the ECE alone, in minutes")
    args = parser.parse_args()
    start = time.process_time()
    found = []
    for setting in SETTINGS:
        found.append(coverage(args.repeats, args.resamples, args.seed, *setting, only_ece=args.only_ece))
        sys.stderr.write(f"{setting}: {time.process_time() - start:.0f} s; {found[-1]}\n")
    head = [f"{patients} patients, {prevalence:.0%} ill" for patients, prevalence in SETTINGS]
    lines = [f"| number | {' | '.join(head)} |", "| --- |" + " --- |" * len(head)]
    missed = []
    for name in dict.fromkeys(name for column in found for name in column):
        cells = []
        for column, setting in zip(found, head, strict=True):
            share, marked = column.get(name, (np.nan, 0.0))
            cells.append("-" if np.isnan(share) else f"{'~' if marked > 0.5 else ''}{share:.3f}")
            if marked <= 0.5 and not WIDELY[0] <= share <= WIDELY[1]:
                missed.append(f"{name} ({setting}): {share:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.write(
        f"{args.repeats} repeats (a fifth of them for differences), {args.resamples} resamples, "
        f"{time.process_time() - start:.0f} s of one core\n"
    )
    sys.stdout.write(f"unmarked and outside {WIDELY[0]:.0%} to {WIDELY[1]:.0%}: {'; '.join(missed) or 'none'}\n")


if __name__ == "__main__":
    main()
