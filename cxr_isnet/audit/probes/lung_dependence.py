"""Does the answer depend on the lungs at all?"""

from __future__ import annotations

import numpy as np

from cxr_isnet.audit.probe import AuditContext, Probe
from cxr_isnet.audit.statistics import ProbeResult, bonferroni, describe, one_sided_test
from cxr_isnet.data import paste_lungs
from cxr_isnet.evaluation import FloatArray, WeightedMean

LEAST = 0.1
"""Share of the answer's variation between patients that exchanged lungs have to make."""
VARIES = 0.02
"""Mean difference of the probabilities of two patients below which an answer is constant."""


def run(context: AuditContext) -> ProbeResult:
    """Change of the answer with another patient's lungs, against the difference between both patients."""
    data, rng = context.data, context.rng()
    donors = np.full(len(data), -1, dtype=np.int64)
    for row in range(len(data)):
        others = (data.patients != data.patients[row]) & (data.sites == data.sites[row])
        other_class = others & (data.labels != data.labels[row])
        pool = np.flatnonzero(other_class if other_class.any() else others)
        if len(pool):
            donors[row] = rng.choice(pool)
    rows = np.flatnonzero(donors >= 0)
    if not len(rows):
        return ProbeResult(reason="no hospital has images of two patients")
    own, other = data.subset(rows), data.subset(donors[rows])
    answers = []
    for name, lungs in (("own lungs", own), ("another patient's lungs", other)):
        images = paste_lungs(lungs.images, lungs.masks, own.images, own.masks, context.mean_image)
        answers.append(context.in_batches(context.model.probabilities, images, name))
    by_lungs = _difference(answers[0], answers[1])
    by_patient = _difference(context.probabilities[rows], context.probabilities[donors[rows]])
    bootstrap = context.bootstrap_of(own)
    statistics = (
        describe("difference of the answers of two patients", WeightedMean(by_patient), bootstrap, len(rows)),
        describe("change of the answer with the other patient's lungs", WeightedMean(by_lungs), bootstrap, len(rows)),
        one_sided_test(
            f"{LEAST} of the former minus the latter",
            WeightedMean(LEAST * by_patient - by_lungs), bootstrap, len(rows), threshold=0.0,
        ),
    )  # fmt: skip
    if by_patient.mean() < VARIES:
        return ProbeResult(statistics, reason="the answer hardly varies from patient to patient")
    told = f"the lungs of another patient change it by less than {LEAST} of what the whole image does"
    return ProbeResult(statistics, bonferroni(statistics), telling=told)


def _difference(first: FloatArray, second: FloatArray) -> FloatArray:
    """Total variation distance (N,) of probabilities (N, classes)."""
    return np.asarray(np.abs(first - second).sum(1) / 2, dtype=np.float64)


PROBE = Probe(
    name="lung_dependence",
    title="Dependence on the lungs",
    question="Does the answer change when the lungs become another patient's?",
    rule=(
        f"A shortcut, if it changes by less than {LEAST} of the difference between the answers of both patients, who "
        "are of different classes where a hospital has both. Differences are half the sum of the absolute differences "
        "of the probabilities (total variation distance)."
    ),
    limits=(
        "The seam of pasted lungs changes an answer too, so that a model of the background that is disturbed by it is "
        "not found here. An answer that hardly varies cannot be examined."
    ),
    needs=(),
    run=run,
)
