"""Heatmaps of several methods on the same images, one row per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxr_isnet.evaluation.gallery import HeatmapCase
from cxr_isnet.evaluation.relevance_share import relevance_in_lung

_TILE = 1.9
_BRIGHTEST = 99.5


def comparison_figure(rows: Mapping[str, Sequence[HeatmapCase]]) -> Figure:
    """A row of X-rays, then a row of maps per method: |relevance| over all classes, the outline of the lungs in green.

    Each map is divided by its 99.5th percentile. Beneath it stands the share of relevance inside the lungs.

    Args:
        rows: By method, the cases; all methods show the same images in the same order.

    Raises:
        ValueError: No method, no case, or methods that show different images.
    """
    cases = list(rows.values())
    if not cases or not cases[0] or any([c.path for c in row] != [c.path for c in cases[0]] for row in cases):
        raise ValueError("a comparison needs the same images, at least one, of at least one method")
    columns = len(cases[0])
    figure = Figure(figsize=(_TILE * columns + 1.1, (_TILE + 0.25) * (len(rows) + 1)), layout="constrained", dpi=110)
    grid = figure.subplots(len(rows) + 1, columns, squeeze=False)
    for axes, case in zip(grid[0], cases[0], strict=True):
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(case.label, fontsize=9)
        _finish(axes, case)
    grid[0][0].set_ylabel("X-ray with mark", fontsize=10)
    for line, (method, row) in zip(grid[1:], rows.items(), strict=True):
        line[0].set_ylabel(method, fontsize=10)
        for axes, case in zip(line, row, strict=True):
            _draw_strength(axes, case)
    return figure


def _draw_strength(axes: Axes, case: HeatmapCase) -> None:
    strength = np.abs(case.maps).sum(0)
    axes.imshow(case.image, cmap="gray", vmin=0, vmax=1)
    top = np.percentile(strength, _BRIGHTEST)
    shown = np.clip(strength / top, 0, 1) if top > 0 else np.zeros_like(strength)
    axes.imshow(shown, cmap="inferno", vmin=0, vmax=1, alpha=0.35 + 0.65 * np.sqrt(shown))
    told = f"says {case.predicted}"
    if case.mask is not None:
        share = relevance_in_lung(case.maps[None], case.mask[None, None], np.ones(1))[0]
        told += f"\n{share:.0%} in lungs"
    axes.set_xlabel(told, fontsize=8)
    _finish(axes, case)


def _finish(axes: Axes, case: HeatmapCase) -> None:
    if case.mask is not None:
        axes.contour(np.asarray(case.mask, dtype=float), levels=[0.5], colors="#35d07f", linewidths=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
