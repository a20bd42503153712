"""Run all probes on a model, and turn their p-values into verdicts and into a statement of what was examined."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tqdm import tqdm

from cxr_isnet.audit.probe import AuditContext, Capability, Probe
from cxr_isnet.audit.probes import ON_HELD_OUT, PROBES
from cxr_isnet.audit.statistics import LEVEL, ProbeResult
from cxr_isnet.audit.training_images import TrainingImages
from cxr_isnet.evaluation import holm

logger = logging.getLogger(__name__)

RULE = (
    f"A probe has found a shortcut if its p-value is below {LEVEL} after Holm's correction for the number of "
    "probes that could be run. Within a probe the smallest p-value of its statistics is multiplied by their number "
    "(Bonferroni). A statistic's p-value is one-sided: Student's t of its distance from the threshold over its "
    "standard error, from resampled patients. The audit has found a shortcut if any probe has. It has found none among "
    "those examined only if the model tells the classes of these images apart (the positive control), no probe leaves "
    "the question open, and class and hospital are not nearly one in training; else it cannot tell. Of a model that "
    "does not tell them apart heatmaps show no shortcut either: any weights have some relevance outside the lungs."
)

HEATMAPS_FAILED = "the heatmaps did not pass the check by random weights"
CONTROL_FAILED = "the positive control was not passed: finding nothing means nothing"
MAPS_OF_NOTHING = "the positive control was not passed: where such a model's relevance lies shows nothing"
HELD_OUT = "held-out patients of the training hospitals"
NEVER_EXAMINED = (
    "marks and devices inside the lungs",
    "signs that no imposed change resembles and that neither these images nor those of the training hospitals show",
    "aspect, position and side of the lungs",
    "combinations of signs of which each alone does nothing",
)


class Verdict(StrEnum):
    """Verdict of a probe, or of the whole audit: `FOUND`, `NONE_FOUND` or `CANNOT_TELL`."""

    FOUND = "shortcut found"
    NONE_FOUND = "none found among those examined"
    CANNOT_TELL = "cannot tell"
    CONTROL_PASSED = "passed"
    CONTROL_FAILED = "not passed"
    HEATMAPS_SOUND = "heatmaps depend on the weights"
    UNSOUND = "heatmaps not to be trusted"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class ProbeOutcome:
    """Result of a probe with its verdict.

    Attributes:
        probe: that was run.
        result: its statistics.
        verdict: by the rule.
        adjusted_p: p-value after Holm's correction; None without a verdict that rests on one.
        reason: of "not applicable" and "cannot tell"; else what the statistics leave open, or "".
    """

    probe: Probe
    result: ProbeResult
    verdict: Verdict
    adjusted_p: float | None
    reason: str


@dataclass(frozen=True)
class Statement:
    """What was examined, and what was not.

    Attributes:
        found: titles of the probes that found a shortcut, with the statistic that shows it.
        examined: what was looked for and not found.
        open: what was looked for, and left open, with the reason.
        not_examined: what was not looked for, with the reason.
    """

    found: tuple[str, ...]
    examined: tuple[str, ...]
    open: tuple[str, ...]
    not_examined: tuple[str, ...]


def run_probes(context: AuditContext, probes: Sequence[Probe] = PROBES) -> list[ProbeOutcome]:
    """Run every probe that the model allows, and decide on the verdicts together.

    Args:
        context: model and images. With held-out images of the training hospitals some probes are put to them as well.
        probes: in the order of the report.

    Returns:
        An outcome per probe, in order; those that cannot be run are "not applicable", with the reason.
    """
    jobs = [(probe, context) for probe in probes]
    if context.training is not None and context.training.held_out is not None:
        elsewhere = replace(context, data=context.training.held_out, training=None)
        jobs += [(on_held_out(probe), elsewhere) for probe in probes if probe in ON_HELD_OUT]
    return with_verdicts([_outcome(*job) for job in tqdm(jobs, desc="audit", unit="probe", disable=None)])


def on_held_out(probe: Probe) -> Probe:
    """A probe as it is named when it is put to held-out images of the training hospitals."""
    return replace(probe, name=f"{probe.name}_training", title=f"{probe.title}, {HELD_OUT}")


def _outcome(probe: Probe, context: AuditContext) -> ProbeOutcome:
    logger.info("%s", probe.title)
    missing = probe.missing(context.model)
    if missing:
        return _not_applicable(probe, f"the model gives no {' and no '.join(m.text for m in missing)}")
    result = probe.run(context)
    if result.p_value is None and not probe.is_control:
        return _not_applicable(probe, result.reason or "its statistics are undefined on these images", result)
    return ProbeOutcome(probe, result, Verdict.NONE_FOUND, None, result.reason)


def with_verdicts(outcomes: Sequence[ProbeOutcome]) -> list[ProbeOutcome]:
    """Outcomes with verdicts after Holm's correction; none on heatmaps that failed their check, and none in the model's
    favour, nor by heatmaps, where the positive control was not passed."""
    checked = [_checked(o) for o in outcomes]
    unsound = any(o.verdict is Verdict.UNSOUND for o in checked)
    failed = any(o.verdict is Verdict.CONTROL_FAILED for o in checked)
    kept = [
        _not_applicable(o.probe, HEATMAPS_FAILED, o.result) if unsound and _needs_heatmaps(o) else o for o in checked
    ]
    tested = [index for index, o in enumerate(kept) if o.verdict is Verdict.NONE_FOUND]
    adjusted = holm([kept[index].result.p_value or 0.0 for index in tested]).tolist()
    for index, p_value in zip(tested, adjusted, strict=True):
        outcome = kept[index]
        verdict, reason = outcome.verdict, outcome.reason
        if p_value < LEVEL and failed and _needs_heatmaps(outcome):
            verdict, reason = Verdict.CANNOT_TELL, MAPS_OF_NOTHING
        elif p_value < LEVEL:
            verdict = Verdict.FOUND
        elif failed or outcome.result.undecided:
            verdict, reason = Verdict.CANNOT_TELL, reason or CONTROL_FAILED
        kept[index] = replace(outcome, adjusted_p=p_value, verdict=verdict, reason=reason)
    return kept


def overall_verdict(outcomes: Sequence[ProbeOutcome], training: TrainingImages | None = None) -> Verdict:
    """Verdict of the whole audit: a shortcut if any probe has found one; that there is none among those examined only
    if the positive control was passed, and neither a probe nor the training's manifests leave anything open; else it
    cannot be told."""
    verdicts = [o.verdict for o in outcomes]
    if Verdict.FOUND in verdicts:
        return Verdict.FOUND
    left_open = Verdict.CANNOT_TELL in verdicts or (training is not None and bool(training.left_open))
    if Verdict.CONTROL_PASSED not in verdicts or left_open:
        return Verdict.CANNOT_TELL
    return Verdict.NONE_FOUND if Verdict.NONE_FOUND in verdicts else Verdict.CANNOT_TELL


def statement(outcomes: Sequence[ProbeOutcome], training: TrainingImages | None = None) -> Statement:
    """What the verdict rests on.

    Args:
        outcomes: as `run_probes` gives them.
        training: images of the training hospitals, or why there are none.
    """
    by_verdict = {verdict: [o for o in outcomes if o.verdict is verdict] for verdict in Verdict}
    open_ones = [*by_verdict[Verdict.CONTROL_FAILED], *by_verdict[Verdict.CANNOT_TELL]]
    not_examined = [f"{o.probe.title}: {o.reason}" for o in by_verdict[Verdict.NOT_APPLICABLE]]
    if training is not None and training.missing:
        not_examined.append(f"The training hospitals: {training.missing}")
    by_manifest = () if training is None else training.left_open
    return Statement(
        found=tuple(f"{o.probe.title}: {telling(o)}" for o in by_verdict[Verdict.FOUND]),
        examined=tuple(o.probe.title for o in by_verdict[Verdict.NONE_FOUND]),
        open=(*(f"{o.probe.title}: {o.reason}" for o in open_ones), *(f"Training: {text}" for text in by_manifest)),
        not_examined=(*not_examined, *NEVER_EXAMINED),
    )


def telling(outcome: ProbeOutcome) -> str:
    """What speaks most for a shortcut, in words, or "" where nothing is tested."""
    if outcome.result.telling:
        return outcome.result.telling
    tested = [s for s in outcome.result.statistics if s.p_value is not None]
    return min(tested, key=lambda s: s.p_value or 0.0).name if tested else ""


def _checked(outcome: ProbeOutcome) -> ProbeOutcome:
    """Verdict of a probe that looks for no shortcut; any other as it is."""
    if outcome.verdict is Verdict.NOT_APPLICABLE:
        return outcome
    if outcome.probe.is_control:
        p_value = outcome.result.p_value
        passed = p_value is not None and p_value < LEVEL
        return replace(outcome, verdict=Verdict.CONTROL_PASSED if passed else Verdict.CONTROL_FAILED)
    if outcome.probe.checks_heatmaps:
        statistics = outcome.result.statistics
        unchanged = any(s.threshold is not None and s.value > s.threshold for s in statistics)
        return replace(outcome, verdict=Verdict.UNSOUND if unchanged else Verdict.HEATMAPS_SOUND)
    return outcome


def _needs_heatmaps(outcome: ProbeOutcome) -> bool:
    return Capability.HEATMAPS in outcome.probe.needs and not outcome.probe.checks_heatmaps


def _not_applicable(probe: Probe, reason: str, result: ProbeResult | None = None) -> ProbeOutcome:
    return ProbeOutcome(probe, result or ProbeResult(), Verdict.NOT_APPLICABLE, None, reason)
