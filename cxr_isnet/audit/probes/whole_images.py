"""The positive control: does the model tell the classes of these images apart at all?"""

from __future__ import annotations

from cxr_isnet.audit.probe import AuditContext, Probe
from cxr_isnet.audit.probes.hidden_lungs import CHANCE, null_error
from cxr_isnet.audit.statistics import LEVEL, ProbeResult, one_sided_test
from cxr_isnet.evaluation import HandTillAUC


def run(context: AuditContext) -> ProbeResult:
    """AUC of whole images, tested against chance."""
    data = context.data
    statistic = one_sided_test(
        "AUC, whole images",
        HandTillAUC(data.labels, context.probabilities),
        context.bootstrap(), len(data), threshold=CHANCE, min_error=null_error(data),
    )  # fmt: skip
    p_value = 1.0 if statistic.p_value is None else statistic.p_value
    said = "worse than chance" if p_value > 1 - LEVEL else "not better than chance"
    return ProbeResult((statistic,), p_value, "" if p_value < LEVEL else f"the answers are {said} on these images")


PROBE = Probe(
    name="whole_images",
    title="Positive control: whole images",
    question="Does the model tell the classes of these images apart at all?",
    rule=(
        "Passed, if the AUC of the images as they are lies above 0.5 (p < 0.05). Else nothing is said in the model's "
        "favour: that a model which tells nothing apart does not follow the background means nothing."
    ),
    limits="It does not ask by what the classes are told apart: a shortcut that these images have passes it too.",
    needs=(),
    run=run,
    is_control=True,
)
