"""Figures of an evaluation and of a training: plain `Figure` objects, no pyplot, no global state."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from cxr_isnet.evaluation.arrays import IntArray
from cxr_isnet.evaluation.gallery import HeatmapCase, heatmap_gallery
from cxr_isnet.evaluation.metrics import RankAUC, plain
from cxr_isnet.evaluation.predictions import label_indices, probabilities
from cxr_isnet.evaluation.site import SiteResult

__all__ = [
    "HeatmapCase",
    "confusion_figure",
    "evaluation_figures",
    "heatmap_gallery",
    "loss_curves_figure",
    "roc_figure",
]

PANEL_INCHES = 4.2
MAX_COLUMNS = 3


def roc_figure(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """ROC curves with their AUC.

    Args:
        predictions: a checked predictions table.
        classes: names of the classes, in the order of the network's outputs.

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
            _draw_roc(axes, label_indices(table, classes), 1, scores, site)
        _finish_roc(axes, f"ROC of {classes[1]!r} by site")
        return figure
    figure, panels = _panels(len(sites))
    for axes, (site, table) in zip(panels, sites.items(), strict=True):
        labels, scores = label_indices(table, classes), probabilities(table, classes)
        for index, name in enumerate(classes):
            _draw_roc(axes, labels, index, scores[:, index], f"{name} vs rest")
        _finish_roc(axes, f"ROC, {site}")
    return figure


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
    axes.set_xticks(ticks, classes, rotation=30 if len(classes) > 2 else 0)
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="true", title=f"{result.site}: {int(counts.sum())} labelled images")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return figure


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


def evaluation_figures(
    predictions: pd.DataFrame, results: Mapping[str, SiteResult], classes: Sequence[str]
) -> dict[str, Figure]:
    """The figures of every evaluation by name: `roc`, and `confusion_<site>` per result."""
    figures = {"roc": roc_figure(predictions, classes)}
    return figures | {f"confusion_{site}": confusion_figure(result, classes) for site, result in results.items()}


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, MAX_COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(PANEL_INCHES * columns + 0.4, PANEL_INCHES * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in grid[count:]:
        unused.set_axis_off()
    return figure, grid[:count]


def _draw_roc(axes: Axes, labels: IntArray, positive: int, scores: np.ndarray, name: str) -> None:
    known = labels >= 0
    is_positive, scores = labels[known] == positive, scores[known]
    auc = plain(RankAUC(is_positive, ~is_positive, scores), len(scores))
    if np.isnan(auc):
        axes.plot([], [], " ", label=f"{name}: undefined, one class only")
        return
    false_positives, true_positives, _ = roc_curve(is_positive, scores)
    axes.plot(false_positives, true_positives, label=f"{name}: AUC {auc:.3f}")


def _finish_roc(axes: Axes, title: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=title, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize="small", frameon=False)
