"""Heatmaps over X-rays as figures: a row for each image, or methods one beneath the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from cxr_isnet.evaluation import plain_text
from cxr_isnet.inference.heatmap_overlay import AGAINST, FOR, SCALE_PERCENTILE, blended, overlay, shared_scale
from cxr_isnet.inference.relevance_share import relevance_in_lung

TILE_INCHES = 2.5
TITLE_INCHES = 0.8
OUTLINE = "#ffd400"
WRONG = "#b2182b"
COLOURS = LinearSegmentedColormap.from_list(
    "for_and_against", [tuple(v / 255 for v in colour) for colour in (AGAINST, (255, 255, 255), FOR)]
)
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
        probabilities: of the classes, in the order of `map_names`.
        path: of the image file; its name alone is shown, and none where it is "".
    """

    image: npt.NDArray[np.floating]
    mask: npt.NDArray[np.generic] | None
    maps: npt.NDArray[np.floating]
    map_names: Sequence[str]
    label: str
    predicted: str
    probabilities: Sequence[float]
    path: str


@plain_text
def heatmap_gallery(
    cases: Sequence[HeatmapCase], classes: Sequence[str], *, title: str = "", scale: float | None = None
) -> Figure:
    """A row per case: the image with the outline of the lungs, then its maps over the image, a column per name.

    All maps have one scale, whose number stands at the colour bar: red speaks for the class, blue against it, and where
    nothing does the X-ray is seen. Nothing is turned or mirrored.

    Args:
        cases: the rows; at least one.
        classes: order of the columns; maps named otherwise come after.
        title: above the figure.
        scale: relevance of the strongest colour; None takes the 99.5th percentile of the absolute values of all maps.

    Raises:
        ValueError: no case, or maps and names that differ in number.
    """
    if not cases or any(not len(case.maps) or len(case.maps) != len(case.map_names) for case in cases):
        raise ValueError("a gallery needs at least one case, and a name for each of one or more maps of a case")
    named = list(dict.fromkeys(name for case in cases for name in case.map_names))
    names = [name for name in classes if name in named] + [name for name in named if name not in classes]
    scale = shared_scale(case.maps for case in cases) if scale is None else scale
    columns = 1 + len(names)
    size = (TILE_INCHES * columns + 0.7, (TILE_INCHES + TITLE_INCHES) * len(cases) + 0.4 * bool(title))
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    grid = figure.subplots(len(cases), columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[], frame_on=False)
    for row, case in zip(grid, cases, strict=True):
        _draw_image(row[0], case)
        for relevance, name in zip(case.maps, case.map_names, strict=True):
            _draw_map(row[1 + names.index(name)], case, relevance, name, scale)
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), COLOURS),
        ax=grid.ravel().tolist(), shrink=0.6, aspect=30, ticks=[-1, 0, 1], pad=0.02,
    )  # fmt: skip
    bar.ax.set_yticklabels([f"\u2212{scale:.3g}\nagainst", "0", f"{scale:.3g}\nfor"], fontsize=8)
    bar.set_label(f"relevance, one scale ({SCALE_PERCENTILE}th percentile)", fontsize=8)
    if title:
        figure.suptitle(title)
    return figure


def _draw_image(axes: Axes, case: HeatmapCase) -> None:
    axes.imshow(case.image, cmap="gray", vmin=0, vmax=1)
    _outline(axes, case.mask)
    shares = zip(case.map_names, case.probabilities, strict=False)
    verdict = f"true {case.label or 'unknown'}, predicted {case.predicted}\n" + ", ".join(
        f"{name} {value:.2f}" for name, value in shares
    )
    name = _short(PurePath(case.path).name)
    shown = f"{name}{_share(case.maps, case.mask)}" if name else _share(case.maps, case.mask).removeprefix(SEPARATOR)
    colour = "black" if case.label == case.predicted or not case.label else WRONG
    axes.set_title(f"{verdict}\n{shown}", fontsize=8, color=colour, wrap=True)


def _draw_map(axes: Axes, case: HeatmapCase, relevance: npt.NDArray[np.floating], name: str, scale: float) -> None:
    axes.imshow(blended(case.image, overlay(relevance, scale)), interpolation="nearest")
    _outline(axes, case.mask)
    axes.set_title(
        f"relevance for {name}\n{_share(relevance[None], case.mask).removeprefix(SEPARATOR)}", fontsize=8, wrap=True
    )


def _outline(axes: Axes, mask: npt.NDArray[np.generic] | None) -> None:
    if mask is not None and np.ptp(np.asarray(mask, dtype=float)) > 0:
        axes.contour(np.asarray(mask, dtype=float), levels=[0.5], colors=[OUTLINE], linewidths=1.0)


def _share(maps: npt.NDArray[np.floating], mask: npt.NDArray[np.generic] | None) -> str:
    if mask is None:
        return f"{SEPARATOR}no mask"
    share = float(relevance_in_lung(maps[None], np.asarray(mask)[None, None], np.array([True]))[0])
    return f"{SEPARATOR}no relevance" if np.isnan(share) else f"{SEPARATOR}{share:.0%} in lungs"


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 9]}\u2026{name[-8:]}"


_TILE = 1.9


@plain_text
def comparison_figure(rows: Mapping[str, Sequence[HeatmapCase]]) -> Figure:
    """A row of X-rays, then a row of maps per method over them: |relevance| of all classes, the outline of the lungs.

    The relevance of methods has different units. Each map is therefore taken as shares of its own sum, and all have one
    scale, which stands above the figure. Beneath a map stands the share of relevance inside the lungs.

    Args:
        rows: By method, the cases; all methods show the same images in the same order.

    Raises:
        ValueError: No method, no case, or methods that show different images.
    """
    cases = list(rows.values())
    if not cases or not cases[0] or any([c.path for c in row] != [c.path for c in cases[0]] for row in cases):
        raise ValueError("a comparison needs the same images, at least one, of at least one method")
    columns = len(cases[0])
    scale = shared_scale(_strength(case) for row in cases for case in row)
    figure = Figure(figsize=(_TILE * columns + 1.1, (_TILE + 0.35) * (len(rows) + 1)), layout="constrained", dpi=110)
    figure.suptitle(f"one scale for all: full colour is {scale:.2g} of a map's relevance in a pixel", fontsize=8)
    grid = figure.subplots(len(rows) + 1, columns, squeeze=False)
    for axes, case in zip(grid[0], cases[0], strict=True):
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(case.label, fontsize=9)
        _finish(axes, case)
    grid[0][0].set_ylabel("X-ray", fontsize=10)
    for line, (method, row) in zip(grid[1:], rows.items(), strict=True):
        line[0].set_ylabel(method, fontsize=10)
        for axes, case in zip(line, row, strict=True):
            axes.imshow(blended(case.image, overlay(_strength(case), scale)), interpolation="nearest")
            axes.set_xlabel(_caption(case), fontsize=8)
            _finish(axes, case)
    return figure


def _strength(case: HeatmapCase) -> npt.NDArray[np.float64]:
    """Share (H, W) of the absolute relevance of all classes in every pixel; 0 where there is none."""
    strength = np.abs(np.asarray(case.maps, dtype=np.float64)).sum(0)
    total = strength.sum()
    return np.asarray(strength / total if total > 0 else strength, dtype=np.float64)


def _caption(case: HeatmapCase) -> str:
    caption = f"predicted {case.predicted}"
    if case.mask is not None:
        share = relevance_in_lung(case.maps[None], case.mask[None, None], np.ones(1))[0]
        caption += f"\n{share:.0%} in lungs"
    return caption


def _finish(axes: Axes, case: HeatmapCase) -> None:
    _outline(axes, case.mask)
    axes.set_xticks([])
    axes.set_yticks([])
