"""All probes of a model, one after the other, and what they come to together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from cxr_isnet.audit.audit_context import AuditContext
from cxr_isnet.audit.probe import Capability, Probe
from cxr_isnet.audit.probes import PROBES
from cxr_isnet.audit.statistics import ProbeResult, Verdict
from cxr_isnet.evaluation import holm

logger = logging.getLogger(__name__)

LEVEL = 0.05
"""Probability of any false alarm of a whole audit."""

RULE = (
    f"An probe is a sign of a shortcut if its p-value is below {LEVEL} after Holm's correction for the number of "
    "probes that could be made. Within an probe the smallest p-value of its numbers is taken times their "
    "count (Bonferroni). A number's p-value is one-sided: Student's t of its distance from the threshold over its "
    "standard error, from resampled patients. The audit is a sign of a shortcut if any probe is."
)

LOST_TRUST = "the heatmaps did not pass the check by random weights"


@dataclass(frozen=True)
class Result:
    """What one probe came to.

    Attributes:
        probe: which.
        observation: its numbers.
        verdict: what they mean by the rule.
        adjusted_p: p-value after Holm's correction; None without a verdict that rests on one.
        reason: of "not applicable"; else what is left open, or "".
    """

    probe: Probe
    observation: ProbeResult
    verdict: Verdict
    adjusted_p: float | None
    reason: str


def run_probes(context: AuditContext, probes: Sequence[Probe] = PROBES) -> list[Result]:
    """Make every probe that the model allows, and judge them together.

    Returns:
        A result per probe, in order; those that cannot be made are "not applicable", with the reason.
    """
    results = []
    for probe in tqdm(probes, desc="audit", unit="probe", disable=None):
        logger.info("%s", probe.title)
        missing = probe.missing(context.model)
        if missing:
            results.append(_left_out(probe, f"the model gives no {' and no '.join(m.told for m in missing)}"))
            continue
        found = probe.run(context)
        if found.p_value is None:
            results.append(_left_out(probe, found.reason or "its numbers are undefined on these images", found))
        elif probe.checks_heatmaps:
            results.append(Result(probe, found, _soundness(found), None, found.reason))
        else:
            results.append(Result(probe, found, Verdict.NO_SIGN, None, found.reason))
    return judged(results)


def judged(results: Sequence[Result]) -> list[Result]:
    """The results with their verdicts: heatmaps that failed their check take what rests on them away."""
    unsound = any(r.verdict is Verdict.UNSOUND for r in results)
    kept = [_left_out(r.probe, LOST_TRUST, r.observation) if unsound and _rests_on_heatmaps(r) else r for r in results]
    tested = [place for place, r in enumerate(kept) if _is_tested(r)]
    adjusted = holm([kept[place].observation.p_value or 0.0 for place in tested]).tolist()
    for place, p_value in zip(tested, adjusted, strict=True):
        verdict = Verdict.SIGN if p_value < LEVEL else Verdict.NO_SIGN
        kept[place] = replace(kept[place], adjusted_p=p_value, verdict=verdict)
    return kept


def overall(results: Sequence[Result]) -> Verdict:
    """A sign if any probe is one; not applicable if none could be made."""
    verdicts = {r.verdict for r in results if not r.probe.checks_heatmaps}
    if Verdict.SIGN in verdicts:
        return Verdict.SIGN
    return Verdict.NO_SIGN if Verdict.NO_SIGN in verdicts else Verdict.NOT_APPLICABLE


def _is_tested(result: Result) -> bool:
    return result.verdict is not Verdict.NOT_APPLICABLE and not result.probe.checks_heatmaps


def _rests_on_heatmaps(result: Result) -> bool:
    return Capability.HEATMAPS in result.probe.needs and not result.probe.checks_heatmaps


def _soundness(found: ProbeResult) -> Verdict:
    alike = any(m.threshold is not None and m.value > m.threshold for m in found.statistics)
    return Verdict.UNSOUND if alike else Verdict.NO_SIGN


def _left_out(probe: Probe, reason: str, found: ProbeResult | None = None) -> Result:
    return Result(probe, found or ProbeResult(), Verdict.NOT_APPLICABLE, None, reason)
