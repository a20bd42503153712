"""The rules of the gate: each answers, from the evidence of a model, whether it holds and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_isnet.deployment.gate_config import GateConfig, GateMetric
from cxr_isnet.evaluation import (
    RELEVANCE_COLUMN,
    RELEVANCE_NULL_COLUMN,
    EvaluatedImages,
    FloatArray,
    Interval,
    PatientBootstrap,
    Replicates,
    WeightedMean,
    WithinSiteAUC,
    calibration,
    frozen_rule,
    label_indices,
    metric_families,
    paired_difference,
    predicted_classes,
    probabilities,
    relevance_excess,
    with_temperature,
)

AUDIT_PASSED = "none found among those examined"
"""The one verdict of an audit that lets a model pass; that nothing can be told, or an older audit's, does not."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one model.

    Attributes:
        name: What it is called in reasons.
        external: Its checked predictions on external hospitals, without planted marks; None where there are none.
        validation: The same on in-domain validation.
        thumbnail: The thumbnail control's on the external images.
        temperature: The model is shipped with; None where it is not known.
        audit_verdict: Of the newest audit of this very model; "" without one.
        seen_digests: Of the tables of training and validation; None where the run does not say.
        external_digests: Of the tables of the external hospitals.
    """

    name: str
    external: pd.DataFrame | None = None
    validation: pd.DataFrame | None = None
    thumbnail: pd.DataFrame | None = None
    temperature: float | None = None
    audit_verdict: str = ""
    seen_digests: frozenset[str] | None = None
    external_digests: frozenset[str] = frozenset()


class MissingEvidence(Exception):
    """What a rule needs is not there."""


Answer = tuple[bool, str]


def _external_hospitals(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    table = _table(candidate)
    known = table[label_indices(table, predicted_classes(table, candidate.name)) >= 0]
    patients, sites = _patients(known), sorted(known["site"].unique())
    lacking = sorted(set(gate.sites) - set(sites))
    if lacking:
        raise MissingEvidence(f"the model was not evaluated at {', '.join(lacking)} (evaluated at {', '.join(sites)})")
    enough = patients >= gate.min_patients
    return enough, f"{patients} labelled patients of {', '.join(sites)}; {gate.min_patients} are needed"


def _floor(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    found = _replicates(candidate, _table(candidate), gate).interval(gate.metric.value)
    assert gate.floor is not None
    passed = math.isfinite(found.low) and found.low > gate.floor
    return passed, f"{gate.metric.value} is {_shown(found)}; the lower end must be above {gate.floor:g}"


def _champion(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    if champion is None:
        return True, "there is no champion yet"
    assert gate.margin is not None
    ours, theirs = _shared(candidate, _table(candidate), _table(champion), "the champion", gate)
    difference = _difference(_replicates(candidate, ours, gate), _replicates(champion, theirs, gate), gate.metric.value)
    passed = math.isfinite(difference.low) and difference.low > -gate.margin
    kind = "better than" if difference.low > 0 else "not inferior to" if passed else "not shown to be as good as"
    return passed, (
        f"{gate.metric.value} less that of {champion.name} is {_shown(difference)} on {_patients(ours)} patients: "
        f"{kind} it; the lower end must be above {-gate.margin:g}"
    )


def _thumbnail(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    if candidate.thumbnail is None:
        raise MissingEvidence("the run has no predictions of the thumbnail control")
    ours, control = _shared(candidate, _table(candidate), candidate.thumbnail, "the thumbnail control", gate)
    name = GateMetric.WITHIN_SITE_AUC.value
    difference = _difference(_auc_replicates(ours, gate), _auc_replicates(control, gate), name)
    passed = math.isfinite(difference.low) and difference.low > 0
    return passed, f"{name} less that of the thumbnail control is {_shown(difference)}; the lower end must be above 0"


def _relevance(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    table = _table(candidate)
    if not {RELEVANCE_COLUMN, RELEVANCE_NULL_COLUMN} <= set(table.columns):
        raise MissingEvidence(f"the predictions lack the column {RELEVANCE_COLUMN} or {RELEVANCE_NULL_COLUMN}")
    excess = relevance_excess(table)
    if not np.isfinite(excess).any():
        raise MissingEvidence("no external image has a share of relevance in the lungs (it needs lung masks)")
    bootstrap = PatientBootstrap.of(table, resamples=gate.resamples, seed=gate.seed)
    found = _with_certain_ends(bootstrap.resample({"excess": WeightedMean(excess)}), "excess")
    assert gate.relevance_excess is not None
    passed = math.isfinite(found.low) and found.low > gate.relevance_excess
    return passed, (
        f"share of relevance in the lungs less that of the same maps elsewhere is {_shown(found)} on "
        f"{int(np.isfinite(excess).sum())} images; the lower end must be above {gate.relevance_excess:g}"
    )


def _audit(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    if not candidate.audit_verdict:
        raise MissingEvidence("this model has no audit in this store")
    return candidate.audit_verdict == AUDIT_PASSED, f"the audit says '{candidate.audit_verdict}'"


def _calibration(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    if candidate.temperature is None:
        raise MissingEvidence("the run does not say with which temperature the model is shipped")
    table = _table(candidate)
    classes = predicted_classes(table, candidate.name)
    labels, scores = label_indices(table, classes), probabilities(table, classes)
    scaled = with_temperature(scores, candidate.temperature)
    errors = {c: calibration(labels[labels >= 0] == i, scaled[labels >= 0, i]).ece for i, c in enumerate(classes)}
    worst = max(errors, key=lambda name: errors[name] if math.isfinite(errors[name]) else math.inf)
    assert gate.calibration is not None
    passed = errors[worst] <= gate.calibration
    found = f"expected calibration error of {worst} is {errors[worst]:.3f}"
    return passed, f"{found}; it must not be above {gate.calibration:g}"


def _unseen_data(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    if candidate.seen_digests is None or not candidate.external_digests:
        raise MissingEvidence("the run does not say which tables it was trained and evaluated on")
    same = sorted(candidate.seen_digests & candidate.external_digests)
    if same:
        return False, f"an external table is one of training: sha256 {same[0][:12]}"
    if candidate.validation is None:
        raise MissingEvidence("the run has no predictions on in-domain validation")
    keys = [set(zip(t["site"], t["patient_id"], strict=True)) for t in (_table(candidate), candidate.validation)]
    both = keys[0] & keys[1]
    if both:
        return False, f"{len(both)} external patients are in-domain validation patients too"
    return True, "no external table or patient is one of training or validation"


RULES: Mapping[str, Callable[[Evidence, Evidence | None, GateConfig], Answer]] = {
    "external hospitals": _external_hospitals,
    "floor": _floor,
    "champion": _champion,
    "thumbnail": _thumbnail,
    "relevance": _relevance,
    "audit": _audit,
    "calibration": _calibration,
    "unseen data": _unseen_data,
}


def _table(evidence: Evidence) -> pd.DataFrame:
    if evidence.external is None:
        raise MissingEvidence(f"{evidence.name} was evaluated on no external hospital")
    return evidence.external


def _patients(table: pd.DataFrame) -> int:
    return len(table[["site", "patient_id"]].drop_duplicates())


def _shared(
    candidate: Evidence, ours: pd.DataFrame, theirs: pd.DataFrame, who: str, gate: GateConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables' rows of the images that they share, in one order."""
    classes = [predicted_classes(table, who) for table in (ours, theirs)]
    if classes[0] != classes[1]:
        raise MissingEvidence(
            f"not comparable: {who} tells {list(classes[1])} apart, {candidate.name} {list(classes[0])}"
        )
    keys = ["site", "patient_id", "path"]
    merged = ours[[*keys, "label"]].merge(theirs[[*keys, "label"]], on=keys, suffixes=("", "_other"))
    patients = _patients(merged)
    if patients < gate.min_patients:
        raise MissingEvidence(
            f"not comparable: {candidate.name} and {who} share {patients} patients, {gate.min_patients} are needed. "
            "Evaluate both on the same manifests"
        )
    if (merged["label"] != merged["label_other"]).any():
        raise MissingEvidence(f"not comparable: labels of {candidate.name} and {who} differ")
    first, second = (merged[keys].merge(table, on=keys, validate="one_to_one") for table in (ours, theirs))
    return first, second


def _auc_replicates(table: pd.DataFrame, gate: GateConfig) -> Replicates:
    classes = predicted_classes(table, "predictions")
    sites = table["site"].astype("category").cat.codes.to_numpy().astype(np.int64)
    metric = WithinSiteAUC(label_indices(table, classes), probabilities(table, classes), sites)
    bootstrap = PatientBootstrap.of(table, resamples=gate.resamples, seed=gate.seed)
    return bootstrap.resample({GateMetric.WITHIN_SITE_AUC.value: metric})


def _replicates(evidence: Evidence, table: pd.DataFrame, gate: GateConfig) -> Replicates:
    """The gate's metric of a model, of all resamples; the same resamples for tables of the same rows."""
    if gate.metric is GateMetric.WITHIN_SITE_AUC:
        return _auc_replicates(table, gate)
    if evidence.validation is None:
        raise MissingEvidence(f"{evidence.name} has no predictions on in-domain validation, which freeze its threshold")
    classes = predicted_classes(table, evidence.name)
    scores = probabilities(table, classes)
    rule = frozen_rule(
        label_indices(evidence.validation, classes), probabilities(evidence.validation, classes), classes,
        sensitivity=None, source=evidence.name,
    )  # fmt: skip
    nothing = np.full(len(table), np.nan)
    images = EvaluatedImages(tuple(classes), label_indices(table, classes), scores, rule.decide(scores), nothing, {})
    bootstrap = PatientBootstrap.of(table, resamples=gate.resamples, seed=gate.seed)
    return bootstrap.resample({}, metric_families(images))


def _difference(first: Replicates, second: Replicates, name: str) -> Interval:
    at = first.names.index(name)
    differences = first.replicates[:, at] - second.replicates[:, second.names.index(name)]
    return _certain(paired_difference(first, second, name), differences)


def _with_certain_ends(found: Replicates, name: str) -> Interval:
    return _certain(found.interval(name), found.replicates[:, found.names.index(name)])


def _certain(found: Interval, replicates: FloatArray) -> Interval:
    """The interval; of resamples that all agree, as of a model and itself, that one value."""
    defined = replicates[np.isfinite(replicates)]
    if math.isfinite(found.low) or len(defined) < 2 or np.ptp(defined) > 0:
        return found
    return Interval(found.estimate, found.estimate, found.estimate, found.method, found.resamples_used)


def _shown(found: Interval) -> str:
    ends = f"{found.low:.3f} to {found.high:.3f}" if math.isfinite(found.low) else "undefined"
    return f"{found.estimate:.3f} (95% interval {ends})"
