"""Is the relevance in the lungs?"""

from __future__ import annotations

import numpy as np

from cxr_isnet.audit.audit_set import MIN_PATIENTS, AuditSet
from cxr_isnet.audit.probe import AuditContext, Capability, Probe
from cxr_isnet.audit.statistics import ProbeResult, bonferroni, describe, one_sided_test
from cxr_isnet.evaluation import FloatArray, IntArray, WeightedMean
from cxr_isnet.inference import relevance_in_lung


def run(context: AuditContext) -> ProbeResult:
    """Share of relevance in the lungs per class and hospital, against the lungs' share of the image."""
    data = context.data
    shares = shares_in_lung(context)
    missing = np.asarray(data.masks.mean((1, 2, 3)), dtype=np.float64) - shares
    statistics = []
    for name, rows in groups(data).items():
        bootstrap, count = context.bootstrap(rows), int(np.isfinite(shares[rows]).sum())
        statistics.append(
            describe(f"share of relevance in the lungs, {name}", WeightedMean(shares[rows]), bootstrap, count)
        )
        if bootstrap.n_patients >= MIN_PATIENTS:
            statistics.append(
                one_sided_test(
                    f"the lungs' share of the image minus that of the relevance, {name}",
                    WeightedMean(missing[rows]),
                    bootstrap,
                    count,
                    threshold=0.0,
                )
            )
    return ProbeResult(tuple(statistics), bonferroni(statistics))


def shares_in_lung(context: AuditContext) -> FloatArray:
    """Share (N,) of the absolute relevance of all classes inside the lungs, NaN where there is none."""
    data, heatmaps = context.data, context.model.heatmaps
    if heatmaps is None:
        raise ValueError("the share of relevance needs a model with heatmaps")
    found = []
    for start in range(0, len(data), context.batch_size):
        part = slice(start, start + context.batch_size)
        maps = heatmaps(data.images[part])
        found.append(relevance_in_lung(maps, data.masks[part], np.ones(len(maps))))
    return np.concatenate(found)


def groups(data: AuditSet) -> dict[str, IntArray]:
    """Rows of all images, and of every class at every hospital that has it."""
    found = {"all images": np.arange(len(data))}
    for site, site_name in enumerate(data.site_names):
        for label, name in enumerate(data.classes):
            rows = np.flatnonzero((data.sites == site) & (data.labels == label))
            if len(rows):
                found[f"{name}, {site_name}"] = rows
    return found


PROBE = Probe(
    name="relevance_share",
    title="Relevance in the lungs",
    question="How much of the relevance lies in the lungs, per class and hospital?",
    rule=(
        "A shortcut, if in all images, or in a class at a hospital, the lungs hold a smaller share of the relevance "
        "than of the image's area: maps without information on the lungs would do as well. Groups of fewer than "
        f"{MIN_PATIENTS} patients are described only."
    ),
    limits=(
        "Relevance in the lungs does not prove that the disease is recognised, and a model may need some of what lies "
        "around the lungs. Valid only if the heatmaps pass the check by random weights."
    ),
    needs=(Capability.HEATMAPS,),
    run=run,
)
