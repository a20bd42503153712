"""Figures of a study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxr_isnet.evaluation.assessment import ModelAssessment, SiteAssessment
from cxr_isnet.evaluation.bootstrap import Estimate
from cxr_isnet.evaluation.groups import Grouping

_PANEL = 3.9


def calibration_figure(site: SiteAssessment, classes: Sequence[str]) -> Figure:
    """Reliability curve and decision curve of each class; of two classes, of the second."""
    shown = classes[1:] if len(classes) == 2 else classes
    figure = Figure(figsize=(_PANEL * 2, _PANEL * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2, squeeze=False)
    for (left, right), name in zip(grid, shown, strict=True):
        left.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        curves = {"as given": site.calibration, "with temperature": site.calibration_scaled}
        for label, found in curves.items():
            if name in found:
                used = [b for b in found[name].bins if b.n]
                left.plot(
                    [b.predicted for b in used], [b.observed for b in used], marker="o", markersize=4, label=label
                )
        left.set(
            xlabel=f"probability of {name}", ylabel="observed share", title="Reliability", xlim=(0, 1), ylim=(0, 1)
        )
        left.legend(frameon=False, fontsize=8)
        curve = site.decision_curve[name]
        right.plot(curve.thresholds, curve.model, label="model")
        right.plot(curve.thresholds, curve.act_on_all, label="act on all", linestyle="--")
        right.axhline(0, color="0.6", linewidth=1, label="act on none")
        top = max([0.0, *(v for v in curve.model if np.isfinite(v))])
        right.set(xlabel="threshold probability", ylabel="net benefit", title=f"Decision curve, {name}")
        right.set(xlim=(0, 1), ylim=(-0.1, top + 0.05))
        right.legend(frameon=False, fontsize=8)
    return figure


def forest_figure(groups: Sequence[Grouping]) -> Figure | None:
    """A line per group with its interval, by column; None when no group has a number."""
    rows = [
        (f"{grouping.column}: {group.group} (n = {group.n_images})", group.estimates[grouping.metric])
        for grouping in groups
        if grouping.metric
        for group in grouping.groups
    ]
    if not rows:
        return None
    metrics = sorted({grouping.metric.replace("_", " ") for grouping in groups if grouping.metric})
    figure, axes = _intervals(rows)
    axes.set_xlabel(f"{' / '.join(metrics)} with 95% interval")
    axes.grid(axis="x", alpha=0.3)
    return figure


def sites_figure(models: Sequence[ModelAssessment]) -> Figure:
    """AUC with its interval, by model and site."""
    rows = [(f"{model.name}: {site}", there.result.auc) for model in models for site, there in model.sites.items()]
    figure, axes = _intervals(rows)
    axes.axvline(0.5, color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("AUC with 95% interval (dotted: chance)")
    return figure


def _intervals(rows: Sequence[tuple[str, Estimate]]) -> tuple[Figure, Axes]:
    """A line for each of the named numbers, from top to bottom; nothing where a number or an interval is undefined."""
    figure = Figure(figsize=(7.5, 1.0 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, estimate) in enumerate(rows):
        if np.isfinite(estimate.value):
            axes.plot(estimate.value, place, "s", color="#1f4e79", markersize=5)
        if np.isfinite(estimate.low):
            axes.plot([estimate.low, estimate.high], [place, place], color="#1f4e79", linewidth=1.5)
    axes.set_yticks(range(len(rows)), [text for text, _ in rows], fontsize=8)
    axes.set(xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5))
    return figure, axes
