"""Items of reporting guidelines that a run can answer; all others are the authors' to fill in.

TRIPOD+AI: Collins et al., BMJ 385:e078378 (2024). CLAIM 2024 update: Tejani et al., Radiology: Artificial Intelligence
(2024). STARD 2015: Cohen et al., BMJ Open 6:e012799 (2016), on whose list STARD-AI (2025) builds; the numbers are those
of STARD 2015. DECIDE-AI: Vasey et al., BMJ 377:e070904 (2022), which is of studies with users: a run answers the item
on the system alone. The topics are in our words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_isnet.evaluation.calibration import BINS
from cxr_isnet.evaluation.metrics import class_metrics, metric_words, overall_metrics
from cxr_isnet.evaluation.study import Study


@dataclass(frozen=True)
class Answer:
    """One item of a guideline and what the run says to it.

    Attributes:
        guideline: its name.
        item: number of the item there.
        topic: what the item asks for.
        answer: what this run says.
    """

    guideline: str
    item: str
    topic: str
    answer: str


def answers(study: Study) -> tuple[Answer, ...]:
    """The items that the study answers, by guideline and number."""
    model = next(iter(study.models.values()))
    sites = [site for site in model.sites if site != "pooled"]
    everyone = model.overall.result
    size = f"{everyone.n_images} images of {everyone.n_patients} patients at {len(sites)} site(s): {', '.join(sites)}"
    cases = ", ".join(f"{share:.1%} {name}" for name, share in everyone.prevalence.items())
    unlabelled = f"{everyone.n_images - everyone.n_labelled} images without a label count in no metric"
    overall, by_class = (", ".join(m.words for m in found) for found in (overall_metrics(), class_metrics()))
    calibrated = f"reliability curve, ECE ({BINS} equal bins), Brier score, slope, intercept"
    methods = f"{overall}; per class {by_class}; {calibrated}; net benefit"
    uncertainty = (
        f"score intervals from a bootstrap over patients within sites ({study.settings.resamples} resamples), DeLong "
        "over patients, Dirichlet posterior; random effects over sites; between models DeLong's and McNemar's tests, "
        "stratified by site, with Holm's correction"
    )
    flow = model.flow
    went = (
        f"{flow.images + flow.failed_images} images listed, {flow.failed_images} not predicted; {flow.images} images "
        f"of {flow.patients} patients predicted; {flow.labelled_images} of {flow.labelled_patients} with a label"
    )
    grouped = ", ".join(metric_words(grouping.column) for grouping in model.groups) or "no column to group by was given"
    internal = "in-domain validation set the rule" if model.internal or model.folds else "no validation table was given"
    scaled = {site: fold.temperature for site, fold in model.folds.items()} or {"": model.temperature}
    temperatures = [f"{value:.3g} {site}".strip() for site, value in scaled.items() if np.isfinite(value)]
    temperature = f"temperature scaling, reported beside the numbers as given: {', '.join(temperatures)}"
    return (
        Answer("TRIPOD+AI", "5a", "data sources", size),
        Answer("TRIPOD+AI", "11", "missing data", unlabelled),
        Answer(
            "TRIPOD+AI",
            "12d",
            "heterogeneity between clusters",
            "every site, mean within sites, random effects with I2 and prediction interval",
        ),
        Answer("TRIPOD+AI", "12e", "performance measures", methods),
        Answer("TRIPOD+AI", "12f", "updating", temperature if temperatures else "none"),
        Answer("TRIPOD+AI", "14", "fairness", f"groups: {grouped}"),
        Answer("TRIPOD+AI", "15", "output and threshold", model.rule.origin),
        Answer("TRIPOD+AI", "20b", "characteristics", f"labels: {cases}; groups: {grouped}"),
        Answer("TRIPOD+AI", "21", "numbers analysed", size),
        Answer("TRIPOD+AI", "23a", "performance with intervals", "sections Sites, Calibration and Groups"),
        Answer("TRIPOD+AI", "23b", "heterogeneity of performance", "section Sites"),
        Answer("STARD 2015 / STARD-AI", "12a", "cut-off of the index test", model.rule.origin),
        Answer("STARD 2015 / STARD-AI", "14", "estimating and comparing accuracy", uncertainty),
        Answer("STARD 2015 / STARD-AI", "16", "missing data", f"{unlabelled}; {flow.failed_images} not predicted"),
        Answer("STARD 2015 / STARD-AI", "17", "variability of accuracy", f"between sites; groups: {grouped}"),
        Answer("STARD 2015 / STARD-AI", "19", "flow of participants", went),
        Answer("DECIDE-AI", "4", "AI system: version", model.model_uri or "as the predictions table does not say"),
        Answer("CLAIM 2024", "7", "data sources", size),
        Answer("CLAIM 2024", "12", "missing data", unlabelled),
        Answer("CLAIM 2024", "28", "performance metrics", methods),
        Answer("CLAIM 2024", "29", "significance and uncertainty", uncertainty),
        Answer("CLAIM 2024", "32", "evaluation on internal data", internal),
        Answer("CLAIM 2024", "33", "testing on external data", size),
        Answer("CLAIM 2024", "35", "numbers included", f"{size}; {unlabelled}"),
        Answer("CLAIM 2024", "37", "performance with uncertainty", "sections Sites and Comparison"),
        Answer("CLAIM 2024", "38", "diagnostic performance and precision", "section Sites, table by class"),
    )
