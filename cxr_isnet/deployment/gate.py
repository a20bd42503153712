"""The gate before a model becomes the champion: rules on external hospitals, each with its evidence and its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_isnet.config import parse_settings, read_yaml, spell_by_value
from cxr_isnet.errors import InputError
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


class GateMetric(StrEnum):
    """What a model is judged by."""

    WITHIN_SITE_AUC = "within_site_auc"
    """Mean AUC inside each hospital: telling hospitals apart earns nothing."""
    MACRO_F1 = "macro_f1"
    """At the threshold that is frozen on in-domain validation."""


spell_by_value(GateMetric)


@dataclass(frozen=True)
class GateConfig:
    """What a model must show on external hospitals. A rule that is null is not asked; evidence that is missing fails.

    Attributes:
        metric: What is compared.
        floor: The lower end of its 95% interval must be above.
        margin: The lower end of the difference to the champion, on the same patients, must be above minus this.
        sites: External hospitals that must be among the evidence.
        min_patients: Fewest labelled external patients, and fewest that candidate and champion share.
        better_than_thumbnail: The lower end of the AUC within hospitals, less that of the thumbnail control on the same
            patients, must be above 0.
        relevance_excess: The lower end of the share of relevance in the lungs, less that of the same maps
            elsewhere in the image, must be above.
        audit: The audit of this very model must say that it found no shortcut among those examined.
        calibration: The expected calibration error of every class, with the shipped temperature, must not be above.
        unseen_data: No external table, and no external patient, may be one of training or validation.
        resamples: Bootstrap resamples of each interval.
        seed: Of the bootstrap.
    """

    metric: GateMetric = GateMetric.WITHIN_SITE_AUC
    floor: float | None = 0.7
    margin: float | None = 0.02
    sites: list[str] = field(default_factory=list)
    min_patients: int = 50
    better_than_thumbnail: bool = True
    relevance_excess: float | None = 0.1
    audit: bool = True
    calibration: float | None = 0.15
    unseen_data: bool = True
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 2 or self.min_patients < 2 or self.seed < 0:
            raise InputError(
                f"gate: resamples is {self.resamples}, min_patients {self.min_patients} and seed {self.seed}: at least "
                "2, 2 and 0 are needed"
            )
        if self.margin is not None and self.margin < 0:
            raise InputError(f"gate: margin is {self.margin}: it must be 0 or more")


def read_gate(path: str | Path) -> GateConfig:
    """A gate from a YAML file; raises `InputError` naming the file and its fault."""
    settings = read_yaml(Path(path), "a gate") or {}
    try:
        return parse_settings(settings, GateConfig, "gate")
    except ValueError as error:
        raise InputError(f"{path}: not a gate: {error}. Its rules: {', '.join(GateConfig.__annotations__)}") from error


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


@dataclass(frozen=True)
class Check:
    """One rule, and whether it holds.

    Attributes:
        rule: Name of the rule.
        passed: It holds.
        reason: Why or why not, with the numbers.
    """

    rule: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """Whether a model passes the gate, and why.

    Attributes:
        candidate: Name of the model.
        champion: Name of the champion it was compared with; "" without one.
        checks: Of every rule that is asked.
        gate: The rules.
    """

    candidate: str
    champion: str
    checks: tuple[Check, ...]
    gate: GateConfig

    @property
    def passed(self) -> bool:
        """Every rule that is asked holds, and at least one is asked."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def text(self) -> str:
        """A line for each rule, and the verdict."""
        lines = [f"{'passed' if c.passed else 'FAILED':<7} {c.rule}: {c.reason}" for c in self.checks]
        return "\n".join([*lines, f"gate: {'passed' if self.passed else 'not passed'}"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "candidate": self.candidate,
            "champion": self.champion,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
            "gate": asdict(self.gate),
        }


def decide(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Decision:
    """Applies a gate.

    Args:
        candidate: What is known of the model.
        champion: What is known of the one that is in use; None where none is.
        gate: The rules.
    """
    asked: dict[str, bool] = {
        "external hospitals": True,
        "floor": gate.floor is not None,
        "champion": gate.margin is not None,
        "thumbnail": gate.better_than_thumbnail,
        "relevance": gate.relevance_excess is not None,
        "audit": gate.audit,
        "calibration": gate.calibration is not None,
        "unseen data": gate.unseen_data,
    }
    checks = []
    for rule, wanted in asked.items():
        if not wanted:
            continue
        try:
            passed, reason = _RULES[rule](candidate, champion, gate)
        except _Missing as missing:
            passed, reason = False, f"no evidence: {missing}"
        checks.append(Check(rule, passed, reason))
    return Decision(candidate.name, champion.name if champion else "", tuple(checks), gate)


class _Missing(Exception):
    """What a rule needs is not there."""


Answer = tuple[bool, str]


def _external_hospitals(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    table = _table(candidate)
    known = table[label_indices(table, predicted_classes(table, candidate.name)) >= 0]
    patients, sites = _patients(known), sorted(known["site"].unique())
    lacking = sorted(set(gate.sites) - set(sites))
    if lacking:
        raise _Missing(f"the model was not evaluated at {', '.join(lacking)} (evaluated at {', '.join(sites)})")
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
        raise _Missing("the run has no predictions of the thumbnail control")
    ours, control = _shared(candidate, _table(candidate), candidate.thumbnail, "the thumbnail control", gate)
    name = GateMetric.WITHIN_SITE_AUC.value
    difference = _difference(_auc_replicates(ours, gate), _auc_replicates(control, gate), name)
    passed = math.isfinite(difference.low) and difference.low > 0
    return passed, f"{name} less that of the thumbnail control is {_shown(difference)}; the lower end must be above 0"


def _relevance(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    table = _table(candidate)
    if not {RELEVANCE_COLUMN, RELEVANCE_NULL_COLUMN} <= set(table.columns):
        raise _Missing(f"the predictions lack the column {RELEVANCE_COLUMN} or {RELEVANCE_NULL_COLUMN}")
    excess = relevance_excess(table)
    if not np.isfinite(excess).any():
        raise _Missing("no external image has a share of relevance in the lungs (it needs lung masks)")
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
        raise _Missing("this model has no audit in this store")
    return candidate.audit_verdict == AUDIT_PASSED, f"the audit says '{candidate.audit_verdict}'"


def _calibration(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Answer:
    if candidate.temperature is None:
        raise _Missing("the run does not say with which temperature the model is shipped")
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
        raise _Missing("the run does not say which tables it was trained and evaluated on")
    same = sorted(candidate.seen_digests & candidate.external_digests)
    if same:
        return False, f"an external table is one of training: sha256 {same[0][:12]}"
    if candidate.validation is None:
        raise _Missing("the run has no predictions on in-domain validation")
    keys = [set(zip(t["site"], t["patient_id"], strict=True)) for t in (_table(candidate), candidate.validation)]
    both = keys[0] & keys[1]
    if both:
        return False, f"{len(both)} external patients are in-domain validation patients too"
    return True, "no external table or patient is one of training or validation"


_RULES: Mapping[str, Callable[[Evidence, Evidence | None, GateConfig], Answer]] = {
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
        raise _Missing(f"{evidence.name} was evaluated on no external hospital")
    return evidence.external


def _patients(table: pd.DataFrame) -> int:
    return len(table[["site", "patient_id"]].drop_duplicates())


def _shared(
    candidate: Evidence, ours: pd.DataFrame, theirs: pd.DataFrame, who: str, gate: GateConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables' rows of the images that they share, in one order."""
    classes = [predicted_classes(table, who) for table in (ours, theirs)]
    if classes[0] != classes[1]:
        raise _Missing(f"not comparable: {who} tells {list(classes[1])} apart, {candidate.name} {list(classes[0])}")
    keys = ["site", "patient_id", "path"]
    merged = ours[[*keys, "label"]].merge(theirs[[*keys, "label"]], on=keys, suffixes=("", "_other"))
    patients = _patients(merged)
    if patients < gate.min_patients:
        raise _Missing(
            f"not comparable: {candidate.name} and {who} share {patients} patients, {gate.min_patients} are needed. "
            "Evaluate both on the same manifests"
        )
    if (merged["label"] != merged["label_other"]).any():
        raise _Missing(f"not comparable: labels of {candidate.name} and {who} differ")
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
        raise _Missing(f"{evidence.name} has no predictions on in-domain validation, which freeze its threshold")
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


def lines_of(decision: Decision) -> Iterator[str]:
    """The decision as Markdown, for the description of a registered version."""
    against = f", compared with {decision.champion}" if decision.champion else ""
    yield f"Gate **{'passed' if decision.passed else 'not passed'}**{against}."
    yield ""
    for check in decision.checks:
        yield f"- {'passed' if check.passed else '**failed**'}: {check.rule}: {check.reason}"
