"""Run all probes on a model, and turn their p-values into verdicts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tqdm import tqdm

from cxr_isnet.audit.probe import AuditContext, Capability, Probe
from cxr_isnet.audit.probes import PROBES
from cxr_isnet.audit.statistics import ProbeResult
from cxr_isnet.evaluation import holm

logger = logging.getLogger(__name__)

LEVEL = 0.05
"""Family-wise error rate: probability of any false alarm of a whole audit."""

RULE = (
    f"A probe is a sign of a shortcut if its p-value is below {LEVEL} after Holm's correction for the number of "
    "probes that could be run. Within a probe the smallest p-value of its statistics is multiplied by their number "
    "(Bonferroni). A statistic's p-value is one-sided: Student's t of its distance from the threshold over its "
    "standard error, from resampled patients. The audit is a sign of a shortcut if any probe is."
)

HEATMAPS_FAILED = "the heatmaps did not pass the check by random weights"


class Verdict(StrEnum):
    """Verdict of a probe, or of the whole audit."""

    NO_SIGN = "no sign of a shortcut"
    SIGN = "sign of a shortcut"
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
        reason: of "not applicable"; else what the statistics leave open, or "".
    """

    probe: Probe
    result: ProbeResult
    verdict: Verdict
    adjusted_p: float | None
    reason: str


def run_probes(context: AuditContext, probes: Sequence[Probe] = PROBES) -> list[ProbeOutcome]:
    """Run every probe that the model allows, and decide on the verdicts together.

    Args:
        context: model and images.
        probes: in the order of the report.

    Returns:
        An outcome per probe, in order; those that cannot be run are "not applicable", with the reason.
    """
    outcomes = []
    for probe in tqdm(probes, desc="audit", unit="probe", disable=None):
        logger.info("%s", probe.title)
        missing = probe.missing(context.model)
        if missing:
            outcomes.append(_not_applicable(probe, f"the model gives no {' and no '.join(m.text for m in missing)}"))
            continue
        result = probe.run(context)
        if result.p_value is None:
            reason = result.reason or "its statistics are undefined on these images"
            outcomes.append(_not_applicable(probe, reason, result))
        elif probe.checks_heatmaps:
            outcomes.append(ProbeOutcome(probe, result, _heatmap_verdict(result), None, result.reason))
        else:
            outcomes.append(ProbeOutcome(probe, result, Verdict.NO_SIGN, None, result.reason))
    return with_verdicts(outcomes)


def with_verdicts(outcomes: Sequence[ProbeOutcome]) -> list[ProbeOutcome]:
    """Outcomes with verdicts after Holm's correction; none on heatmaps that failed their check."""
    unsound = any(o.verdict is Verdict.UNSOUND for o in outcomes)
    kept = [
        _not_applicable(o.probe, HEATMAPS_FAILED, o.result) if unsound and _needs_heatmaps(o) else o for o in outcomes
    ]
    tested = [index for index, o in enumerate(kept) if _is_tested(o)]
    adjusted = holm([kept[index].result.p_value or 0.0 for index in tested]).tolist()
    for index, p_value in zip(tested, adjusted, strict=True):
        verdict = Verdict.SIGN if p_value < LEVEL else Verdict.NO_SIGN
        kept[index] = replace(kept[index], adjusted_p=p_value, verdict=verdict)
    return kept


def overall_verdict(outcomes: Sequence[ProbeOutcome]) -> Verdict:
    """Verdict of the whole audit: a sign if any probe is one; not applicable if none could be run."""
    verdicts = {o.verdict for o in outcomes if not o.probe.checks_heatmaps}
    if Verdict.SIGN in verdicts:
        return Verdict.SIGN
    return Verdict.NO_SIGN if Verdict.NO_SIGN in verdicts else Verdict.NOT_APPLICABLE


def _is_tested(outcome: ProbeOutcome) -> bool:
    return outcome.verdict is not Verdict.NOT_APPLICABLE and not outcome.probe.checks_heatmaps


def _needs_heatmaps(outcome: ProbeOutcome) -> bool:
    return Capability.HEATMAPS in outcome.probe.needs and not outcome.probe.checks_heatmaps


def _heatmap_verdict(result: ProbeResult) -> Verdict:
    unchanged = any(s.threshold is not None and s.value > s.threshold for s in result.statistics)
    return Verdict.UNSOUND if unchanged else Verdict.NO_SIGN


def _not_applicable(probe: Probe, reason: str, result: ProbeResult | None = None) -> ProbeOutcome:
    return ProbeOutcome(probe, result or ProbeResult(), Verdict.NOT_APPLICABLE, None, reason)
