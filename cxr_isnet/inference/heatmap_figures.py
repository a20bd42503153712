"""The heatmap gallery: images beside what the classifier found relevant in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cxr_isnet.inference.relevance_share import relevance_in_lung

TILE_INCHES = 2.5
TITLE_INCHES = 0.6
SCALE_PERCENTILE = 99.5
OUTLINE_ON_IMAGE = "#ffd400"
OUTLINE_ON_MAP = "#1b7837"
WRONG = "#b2182b"
COLOURS = "RdBu_r"
SEPARATOR = "; "
MAX_NAME = 20


@dataclass(frozen=True)
class HeatmapCase:
    """One image and its heatmaps.

    Attributes:
        image: (H, W) float in [0, 1].
        mask: (H, W), above 0.5 inside the lungs; None without a mask.
        maps: (K, H, W) signed relevance.
        map_names: K names of what each map explains.
        label: true class, "" when unknown.
        predicted: most probable class.
        probability: of the predicted class.
        path: of the image file; its name alone is shown.
    """

    image: npt.NDArray[np.floating]
    mask: npt.NDArray[np.generic] | None
    maps: npt.NDArray[np.floating]
    map_names: Sequence[str]
    label: str
    predicted: str
    probability: float
    path: str


def heatmap_gallery(cases: Sequence[HeatmapCase], classes: Sequence[str], *, title: str = "") -> Figure:
    """A row per case: the image with the outline of the lungs, then its maps, a column per name.

    Each map is divided by the 99.5th percentile of its absolute values, so that single pixels do not hide the
    rest; white is no relevance, red speaks for the class, blue against it.

    Args:
        cases: the rows; at least one.
        classes: order of the columns; maps named otherwise come after.
        title: above the figure.

    Returns:
        The figure; the colour bar has no unit, as maps are scaled one by one.

    Raises:
        ValueError: no case, or maps and names that differ in number.
    """
    if not cases or any(not len(case.maps) or len(case.maps) != len(case.map_names) for case in cases):
        raise ValueError("a gallery needs at least one case, and a name for each of one or more maps of a case")
    named = list(dict.fromkeys(name for case in cases for name in case.map_names))
    names = [name for name in classes if name in named] + [name for name in named if name not in classes]
    columns = 1 + len(names)
    size = (TILE_INCHES * columns + 0.7, (TILE_INCHES + TITLE_INCHES) * len(cases) + 0.4 * bool(title))
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    grid = figure.subplots(len(cases), columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[], frame_on=False)
    for row, case in zip(grid, cases, strict=True):
        _draw_image(row[0], case)
        for relevance, name in zip(case.maps, case.map_names, strict=True):
            _draw_map(row[1 + names.index(name)], relevance, case.mask, name)
    scale = ScalarMappable(Normalize(-1, 1), COLOURS)
    bar = figure.colorbar(scale, ax=grid.ravel().tolist(), shrink=0.5, aspect=30, ticks=[-1, 0, 1], pad=0.02)
    bar.ax.set_yticklabels(["against", "0", "for"])
    if title:
        figure.suptitle(title)
    return figure


def _draw_image(axes: Axes, case: HeatmapCase) -> None:
    axes.imshow(case.image, cmap="gray", vmin=0, vmax=1)
    _outline(axes, case.mask, OUTLINE_ON_IMAGE)
    right = case.label == case.predicted
    verdict = f"true {case.label or 'unknown'}\npredicted {case.predicted} ({case.probability:.2f})"
    shown = f"{_short(PurePath(case.path).name)}{_share(case.maps, case.mask)}"
    colour = "black" if right or not case.label else WRONG
    axes.set_title(f"{verdict}\n{shown}", fontsize=8, color=colour)


def _draw_map(
    axes: Axes,
    relevance: npt.NDArray[np.floating],
    mask: npt.NDArray[np.generic] | None,
    name: str,
) -> None:
    scale = float(np.percentile(np.abs(relevance), SCALE_PERCENTILE)) or float(np.abs(relevance).max())
    axes.imshow(relevance / (scale or 1.0), cmap=COLOURS, vmin=-1, vmax=1, interpolation="nearest")
    _outline(axes, mask, OUTLINE_ON_MAP)
    axes.patch.set_visible(True)
    axes.set_title(f"relevance for {name}\n{_share(relevance[None], mask).removeprefix(SEPARATOR)}", fontsize=8)


def _outline(axes: Axes, mask: npt.NDArray[np.generic] | None, colour: str) -> None:
    if mask is not None and np.ptp(np.asarray(mask, dtype=float)) > 0:
        axes.contour(np.asarray(mask, dtype=float), levels=[0.5], colors=[colour], linewidths=1.0)


def _share(maps: npt.NDArray[np.floating], mask: npt.NDArray[np.generic] | None) -> str:
    if mask is None:
        return f"{SEPARATOR}no mask"
    share = float(relevance_in_lung(maps[None], np.asarray(mask)[None, None], np.array([True]))[0])
    return f"{SEPARATOR}no relevance" if np.isnan(share) else f"{SEPARATOR}{share:.0%} in lungs"


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 9]}\u2026{name[-8:]}"


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
    caption = f"predicted {case.predicted}"
    if case.mask is not None:
        share = relevance_in_lung(case.maps[None], case.mask[None, None], np.ones(1))[0]
        caption += f"\n{share:.0%} in lungs"
    axes.set_xlabel(caption, fontsize=8)
    _finish(axes, case)


def _finish(axes: Axes, case: HeatmapCase) -> None:
    if case.mask is not None:
        axes.contour(np.asarray(case.mask, dtype=float), levels=[0.5], colors="#35d07f", linewidths=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
