"""Does the model distinguish the classes when the lungs are hidden?"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from cxr_isnet.audit.audit_set import MIN_PATIENTS, AuditSet
from cxr_isnet.audit.probe import AuditContext, Probe
from cxr_isnet.audit.statistics import Panel, ProbeResult, Statistic, bonferroni, describe, one_sided_test
from cxr_isnet.data import background_only, fill_lungs, lungs_only
from cxr_isnet.evaluation import HandTillAUC, Metric, WithinSiteAUC

CHANCE = 0.5


def run(context: AuditContext) -> ProbeResult:
    """AUC of whole images and of lungs alone, for comparison; with the lungs hidden in two ways, for the verdict."""
    data, predict = context.data, context.model.probabilities
    hidden = {
        "background only": background_only(data.images, data.masks, context.mean_grey),
        "lungs filled": fill_lungs(data.images, data.masks, context.mean_image),
    }
    lungs = lungs_only(data.images, data.masks, context.mean_grey)
    bootstrap = context.bootstrap()
    shown = {"whole images": context.probabilities, "lungs only": context.in_batches(predict, lungs, "lungs only")}
    statistics = [
        describe(f"AUC, {name}", HandTillAUC(data.labels, found), bootstrap, len(data)) for name, found in shown.items()
    ]
    for name, images in hidden.items():
        found = context.in_batches(predict, images, name)
        metrics: dict[str, Metric] = {f"AUC, {name}": HandTillAUC(data.labels, found)}
        if _sites_with_classes(data) and len(data.site_names) > 1:
            metrics[f"AUC within hospitals, {name}"] = WithinSiteAUC(data.labels, found, data.sites)
        statistics += [_tested(title, metric, context) for title, metric in metrics.items()]
    tiles = {"as it is": data.images, "lungs only": lungs, **hidden}
    row = int(context.rng().integers(len(data)))
    panel = Panel(
        "One X-ray in the forms that the model was given",
        tuple((name, context.tile(images, row)) for name, images in tiles.items()),
    )
    return ProbeResult(tuple(statistics), bonferroni(statistics), panels=(panel,))


def _tested(title: str, metric: Metric, context: AuditContext) -> Statistic:
    return one_sided_test(
        title,
        metric,
        context.bootstrap(),
        len(context.data),
        threshold=CHANCE,
        min_error=null_error(context.data),
    )


def null_error(data: AuditSet) -> float:
    """Standard error of the AUC of a model without skill, by the numbers of patients: Mann & Whitney (1947)."""
    counts = [len(np.unique(data.patients[data.labels == label])) for label in np.unique(data.labels)]
    pairs = [np.sqrt((first + second + 1) / (12 * first * second)) for first, second in combinations(counts, 2)]
    return float(np.mean(pairs))


def _sites_with_classes(data: AuditSet) -> bool:
    """Whether a hospital has enough patients, of more than one class."""
    return any(
        len(np.unique(data.labels[data.sites == site])) > 1
        and len(np.unique(data.patients[data.sites == site])) >= MIN_PATIENTS
        for site in np.unique(data.sites)
    )


PROBE = Probe(
    name="hidden_lungs",
    title="Classification with hidden lungs",
    question="Does the model distinguish the classes when the lungs are hidden?",
    rule=(
        "A shortcut, if an AUC with hidden lungs lies above 0.5: once with the lungs in one grey, once with those of "
        "the mean image, over all images and, where a hospital has more than one class, within hospitals."
    ),
    limits=(
        "A disease that shows outside the mask (heart, effusion, lines and tubes) gives an AUC above 0.5 without any "
        "shortcut, and so do masks whose outline differs between classes. A shortcut that these images lack is not "
        "found."
    ),
    needs=(),
    run=run,
)
