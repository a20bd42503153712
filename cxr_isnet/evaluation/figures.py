"""Figures of an evaluation and of a training: plain `Figure` objects, no pyplot, no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from cxr_isnet.evaluation.confusion import IntArray
from cxr_isnet.evaluation.groups import Grouping
from cxr_isnet.evaluation.interval import Interval
from cxr_isnet.evaluation.metrics import metric_words
from cxr_isnet.evaluation.model_evaluation import ModelEvaluation, SiteEvaluation
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities
from cxr_isnet.evaluation.ranking import RankAUC, RocBand
from cxr_isnet.evaluation.site import SiteResult

plain_text = rc_context({"text.parse_math": False})
"""Decorates what draws names, in which dollar signs are no formula."""

PANEL_INCHES = 4.2
MAX_COLUMNS = 3


@plain_text
def roc_figure(
    predictions: pd.DataFrame, classes: Sequence[str], sites_found: Mapping[str, SiteEvaluation] | None = None
) -> Figure:
    """ROC curves with their AUC.

    Args:
        predictions: a checked predictions table.
        classes: names of the classes, in the order of the network's outputs.
        sites_found: site to evaluation, whose bands are drawn behind the curves; None draws none.

    Returns:
        Two classes: one panel with a curve per site, the second class being positive. More: a panel per site
        with a curve per class against the rest. A curve that the labels do not allow is named in the legend
        as undefined.
    """
    sites = {str(site): table for site, table in predictions.groupby("site", sort=True)}
    if len(classes) == 2:
        figure, (axes,) = _panels(1)
        for site, table in sites.items():
            scores = probabilities(table, classes)[:, 1]
            _draw_roc(axes, label_indices(table, classes), 1, scores, site, _band(sites_found, site, classes[1]))
        _finish_roc(axes, f"ROC of {classes[1]!r} by site")
        return figure
    figure, panels = _panels(len(sites))
    for axes, (site, table) in zip(panels, sites.items(), strict=True):
        labels, scores = label_indices(table, classes), probabilities(table, classes)
        for index, name in enumerate(classes):
            _draw_roc(axes, labels, index, scores[:, index], f"{name} vs rest", _band(sites_found, site, name))
        _finish_roc(axes, f"ROC, {site}")
    return figure


@plain_text
def confusion_figure(result: SiteResult, classes: Sequence[str]) -> Figure:
    """Confusion matrix of one site: counts, shaded and annotated by the share of the true class."""
    counts = np.asarray(result.confusion)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = 2.6 + 0.8 * len(classes)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = f"{shares[row, column]:.0%}" if totals[row, 0] else "none"
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{count}\n{share}", ha="center", va="center", color=colour)
    ticks = range(len(classes))
    long = len(classes) > 2 or max(map(len, classes)) > 12
    axes.set_xticks(ticks, classes, rotation=30 if long else 0, ha="right" if long else "center")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="true")
    figure.suptitle("\n".join(wrap(f"{result.site}: {int(counts.sum())} labelled images", int(9 * side))), fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return figure


@plain_text
def loss_curves_figure(history: pd.DataFrame) -> Figure:
    """Loss terms over the epochs of a training.

    Args:
        history: columns `epoch`, `split` and one column per loss term; NaN where a split has no such term.

    Returns:
        A panel per term with a line per split.
    """
    terms = [str(name) for name in history.columns if name not in ("epoch", "split")]
    figure, panels = _panels(max(1, len(terms)))
    for axes, term in zip(panels, terms, strict=False):
        for split, rows in history.dropna(subset=[term]).groupby("split", sort=False):
            ordered = rows.sort_values("epoch")
            marker = "o" if len(ordered) <= 30 else None
            axes.plot(ordered["epoch"], ordered[term], marker=marker, markersize=3, label=str(split))
        axes.set(xlabel="epoch", title=term)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, MAX_COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(PANEL_INCHES * columns + 0.4, PANEL_INCHES * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in grid[count:]:
        unused.set_axis_off()
    return figure, grid[:count]


def _band(sites_found: Mapping[str, SiteEvaluation] | None, site: str, name: str) -> RocBand | None:
    return None if sites_found is None else sites_found[site].roc[name]


def _draw_roc(
    axes: Axes, labels: IntArray, positive: int, scores: np.ndarray, name: str, band: RocBand | None = None
) -> None:
    known = labels >= 0
    is_positive, scores = labels[known] == positive, scores[known]
    auc = float(RankAUC(is_positive, ~is_positive, scores)(np.ones((1, len(scores))))[0])
    if np.isnan(auc):
        axes.plot([], [], " ", label=f"{name}: undefined, one class only")
        return
    false_positives, true_positives, _ = roc_curve(is_positive, scores)
    approximate = ", band ~" if band is not None and band.approximate else ""
    (line,) = axes.plot(false_positives, true_positives, label=f"{name}: AUC {auc:.3f}{approximate}")
    if band is not None and np.isfinite(band.low).any():
        at = 1 - np.array(band.specificity)
        axes.fill_between(at, band.low, band.high, color=line.get_color(), alpha=0.15, linewidth=0)


def _finish_roc(axes: Axes, title: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=title, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize="small", frameon=False)


_PANEL = 3.9


@plain_text
def calibration_figure(site: SiteEvaluation, classes: Sequence[str]) -> Figure:
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
        smooth = site.calibration_curve.get(name)
        if smooth is not None:
            left.fill_between(smooth.predicted, smooth.low, smooth.high, color="0.5", alpha=0.25, linewidth=0)
            left.plot(smooth.predicted, smooth.observed, color="0.3", label="smooth, with 95% band")
        left.set(
            xlabel=f"probability of {name}", ylabel="observed share", title="Reliability", xlim=(0, 1), ylim=(0, 1)
        )
        left.legend(frameon=False, fontsize=8)
        curve = site.decision_curve[name]
        right.plot(curve.thresholds, curve.model, label="model")
        right.fill_between(curve.thresholds, curve.low, curve.high, alpha=0.2, linewidth=0)
        right.plot(curve.thresholds, curve.act_on_all, label="act on all", linestyle="--")
        right.axhline(0, color="0.6", linewidth=1, label="act on none")
        top = max([0.0, *(v for v in curve.model if np.isfinite(v))])
        right.set(xlabel="threshold probability", ylabel="net benefit", title=f"Decision curve, {name}")
        right.set(xlim=(0, 1), ylim=(-0.1, top + 0.05))
        right.legend(frameon=False, fontsize=8)
    return figure


@plain_text
def forest_figure(groups: Sequence[Grouping]) -> Figure | None:
    """A line per group with its interval, by column; None when no group has a number."""
    rows = [
        (f"{metric_words(grouping.column)}: {group.group} (n = {group.n_images})", group.metrics[grouping.metric])
        for grouping in groups
        if grouping.metric
        for group in grouping.groups
    ]
    if not rows:
        return None
    metrics = sorted({metric_words(grouping.metric) for grouping in groups if grouping.metric})
    figure, axes = _intervals(rows)
    axes.set_xlabel(f"{' / '.join(metrics)} with 95% interval")
    axes.grid(axis="x", alpha=0.3)
    return figure


@plain_text
def sites_figure(models: Sequence[ModelEvaluation]) -> Figure:
    """AUC with its interval, by model and site."""
    rows = []
    for model in models:
        if "auc" in model.across_sites:
            across = model.across_sites["auc"]
            rows += [(f"{model.name}: mean within sites", across.mean)]
            if np.isfinite(across.next_hospital.low):
                rows += [(f"{model.name}: next hospital (prediction)", across.next_hospital)]
        rows += [(f"{model.name}: {site}", there.result.metrics["auc"]) for site, there in model.sites.items()]
    figure, axes = _intervals(rows)
    axes.axvline(0.5, color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("AUC with 95% interval (dotted: chance)")
    return figure


@plain_text
def slope_figure(slopes: Mapping[str, Mapping[str, float]]) -> Figure:
    """A line for every method through its AUCs at the named points, from left to right.

    Args:
        slopes: method to point to AUC; points in the order in which they stand first.
    """
    points = list(dict.fromkeys(point for found in slopes.values() for point in found))
    figure = Figure(figsize=(2.2 + 1.9 * len(points), 1.2 + 0.32 * max(9, len(slopes))), layout="constrained")
    axes = figure.subplots()
    for name, found in slopes.items():
        places = [points.index(point) for point in found]
        axes.plot(places, list(found.values()), marker="o", markersize=4, linewidth=1.4, label=name)
    axes.axhline(0.5, color="0.6", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(points)), points)
    axes.set(ylabel="AUC (dotted: chance)", ylim=(-0.02, 1.02))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return figure


@plain_text
def differences_figure(rows: Sequence[tuple[str, Interval]], reference: str) -> Figure:
    """A forest plot of differences from a reference method."""
    figure, axes = _intervals(rows)
    axes.axvline(0, color="0.6", linestyle=":", linewidth=1)
    ends = [abs(end) for _, found in rows for end in (found.estimate, found.low, found.high) if np.isfinite(end)]
    reach = 1.1 * max([0.1, *ends])
    axes.set(xlim=(-reach, reach), xlabel=f"AUC minus that of {reference}, with 95% interval")
    return figure


def _intervals(rows: Sequence[tuple[str, Interval]]) -> tuple[Figure, Axes]:
    """A line for each of the named numbers, from top to bottom; nothing where a number or an interval is undefined."""
    figure = Figure(figsize=(7.5, 1.0 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, interval) in enumerate(rows):
        if np.isfinite(interval.estimate):
            axes.plot(interval.estimate, place, "s", color="#1f4e79", markersize=5)
        if np.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [place, place], color="#1f4e79", linewidth=1.5)
    axes.set_yticks(range(len(rows)), [text for text, _ in rows], fontsize=8)
    axes.set(xlim=(0, 1.02), ylim=(max(1, len(rows)) - 0.5, -0.5))
    return figure, axes
