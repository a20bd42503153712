"""All examinations of a model, one after the other, and what they come to together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from cxr_isnet.audit.examination import Ability, Examination
from cxr_isnet.audit.measures import Observation, Verdict
from cxr_isnet.audit.registry import EXAMINATIONS
from cxr_isnet.audit.subject import Subject
from cxr_isnet.evaluation.significance import holm

logger = logging.getLogger(__name__)

LEVEL = 0.05
"""Probability of any false alarm of a whole audit."""

RULE = (
    f"An examination is a sign of a shortcut if its p-value is below {LEVEL} after Holm's correction for the number of "
    "examinations that could be made. Within an examination the smallest p-value of its numbers is taken times their "
    "count (Bonferroni). A number's p-value is one-sided: Student's t of its distance from the threshold over its "
    "standard error, from resampled patients. The audit is a sign of a shortcut if any examination is."
)

LOST_TRUST = "the heatmaps did not pass the check by random weights"


@dataclass(frozen=True)
class Result:
    """What one examination came to.

    Attributes:
        examination: which.
        observation: its numbers.
        verdict: what they mean by the rule.
        adjusted_p: p-value after Holm's correction; None without a verdict that rests on one.
        reason: of "not applicable"; else what is left open, or "".
    """

    examination: Examination
    observation: Observation
    verdict: Verdict
    adjusted_p: float | None
    reason: str


def examine_all(subject: Subject, examinations: Sequence[Examination] = EXAMINATIONS) -> list[Result]:
    """Make every examination that the model allows, and judge them together.

    Returns:
        A result per examination, in order; those that cannot be made are "not applicable", with the reason.
    """
    results = []
    for examination in tqdm(examinations, desc="audit", unit="examination", disable=None):
        logger.info("%s", examination.title)
        missing = examination.missing(subject.model)
        if missing:
            results.append(_left_out(examination, f"the model gives no {' and no '.join(m.told for m in missing)}"))
            continue
        found = examination.examine(subject)
        if found.p_value is None:
            results.append(_left_out(examination, found.reason or "its numbers are undefined on these images", found))
        elif examination.checks_heatmaps:
            results.append(Result(examination, found, _soundness(found), None, found.reason))
        else:
            results.append(Result(examination, found, Verdict.NO_SIGN, None, found.reason))
    return judged(results)


def judged(results: Sequence[Result]) -> list[Result]:
    """The results with their verdicts: heatmaps that failed their check take what rests on them away."""
    unsound = any(r.verdict is Verdict.UNSOUND for r in results)
    kept = [
        _left_out(r.examination, LOST_TRUST, r.observation) if unsound and _rests_on_heatmaps(r) else r for r in results
    ]
    tested = [place for place, r in enumerate(kept) if _is_tested(r)]
    adjusted = holm([kept[place].observation.p_value or 0.0 for place in tested]).tolist()
    for place, p_value in zip(tested, adjusted, strict=True):
        verdict = Verdict.SIGN if p_value < LEVEL else Verdict.NO_SIGN
        kept[place] = replace(kept[place], adjusted_p=p_value, verdict=verdict)
    return kept


def overall(results: Sequence[Result]) -> Verdict:
    """A sign if any examination is one; not applicable if none could be made."""
    verdicts = {r.verdict for r in results if not r.examination.checks_heatmaps}
    if Verdict.SIGN in verdicts:
        return Verdict.SIGN
    return Verdict.NO_SIGN if Verdict.NO_SIGN in verdicts else Verdict.NOT_APPLICABLE


def _is_tested(result: Result) -> bool:
    return result.verdict is not Verdict.NOT_APPLICABLE and not result.examination.checks_heatmaps


def _rests_on_heatmaps(result: Result) -> bool:
    return Ability.HEATMAPS in result.examination.needs and not result.examination.checks_heatmaps


def _soundness(found: Observation) -> Verdict:
    alike = any(m.threshold is not None and m.value > m.threshold for m in found.measures)
    return Verdict.UNSOUND if alike else Verdict.NO_SIGN


def _left_out(examination: Examination, reason: str, found: Observation | None = None) -> Result:
    return Result(examination, found or Observation(), Verdict.NOT_APPLICABLE, None, reason)
