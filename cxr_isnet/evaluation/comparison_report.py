"""What a comparison of methods leaves behind: `report.html`, `comparison.csv`, `comparison.json`, a table in text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cxr_isnet.evaluation.figures import differences_figure, slope_figure
from cxr_isnet.evaluation.interval import Interval
from cxr_isnet.evaluation.method_comparison import ComparedMethod, MethodComparison, flat_numbers
from cxr_isnet.evaluation.page import UNDEFINED, figure_uri, interval_text, p_value, text_columns, write_page
from cxr_isnet.evaluation.report import plain_values
from cxr_isnet.files import write_json
from cxr_isnet.tables import write_table

COMPARISON_FILES = ("report.html", "comparison.csv", "comparison.json")


def write_comparison(output: Path, comparison: MethodComparison, gallery: Figure | None = None) -> None:
    """Writes the files, each whole or not at all; nothing is written before all could be made.

    Args:
        output: Folder, made when it is missing.
        comparison: What was found.
        gallery: Heatmaps of the methods on the same images; None for none.
    """
    rows = [*comparison.methods, *comparison.controls]
    figures = {
        "slope": figure_uri(slope_figure(_slopes(rows))),
        "differences": figure_uri(differences_figure(_differences(comparison), comparison.reference)),
        "gallery": None if gallery is None else figure_uri(gallery, "png"),
    }
    output.mkdir(parents=True, exist_ok=True)
    write_table(pd.DataFrame([{"method": row.name, **flat_numbers(row)} for row in rows]), output / "comparison.csv")
    write_json(output / "comparison.json", {"schema_version": 1, **plain_values(comparison)})
    write_page(
        output / "report.html",
        "comparison_report.html",
        comparison=comparison,
        findings=findings(comparison),
        figures=figures,
    )


def comparison_text(comparison: MethodComparison) -> str:
    """A table for the terminal: a line per method and control, and what follows from it in words."""
    marked = any(row.biased_minus_swapped is not None for row in comparison.methods)
    head = ["method", "trainings", "in-domain AUC", "external AUC", *comparison.sites[: _several(comparison)]]
    rows = [[*head, *(["biased - swapped"] if marked else []), "in lungs", f"minus {comparison.reference}", "p (Holm)"]]
    for row in (*comparison.methods, *comparison.controls):
        cells = [row.name, str(row.trainings), interval_text(row.in_domain_auc), interval_text(row.mean_auc)]
        found = [row.auc["clean"].get(site) for site in comparison.sites[: _several(comparison)]]
        cells += [UNDEFINED if auc is None else interval_text(auc) for auc in found]
        if marked:
            drop = row.biased_minus_swapped
            cells.append(UNDEFINED if drop is None else interval_text(drop))
        against = row.against_reference
        cells.append(_last(row))
        cells += [UNDEFINED if against is None else interval_text(against.interval), p_value(row.p_holm)]
        rows.append(cells)
    return "\n".join([*text_columns(rows), *findings(comparison)])


def findings(comparison: MethodComparison) -> list[str]:
    """What the numbers say, in sentences: which methods differ from the reference, and which do not beat a control."""
    reference = next((row for row in comparison.methods if row.name == comparison.reference), None)
    found = []
    if reference is None:
        found.append(f"{comparison.reference} has no finished training: no method is tested against it.")
    for row in comparison.methods:
        if row.against_reference is not None and row.p_holm < 0.05:
            side = "below" if row.against_reference.interval.estimate < 0 else "above"
            found.append(
                f"{row.name} is {side} {comparison.reference} on the external sites (p {p_value(row.p_holm)})."
            )
    undecided = [r.name for r in comparison.methods if r.against_reference is not None and not r.p_holm < 0.05]
    if undecided:
        found.append(f"No difference from {comparison.reference} is shown for {', '.join(undecided)}.")
    for control in comparison.controls:
        beaten = [r.name for r in comparison.methods if r.mean_auc.estimate <= control.mean_auc.estimate]
        if beaten:
            found.append(
                f"The control '{control.name}', which sees no lungs, does as well on the external sites as "
                f"{', '.join(beaten)}."
            )
    for row in comparison.methods:
        lost = row.biased_minus_swapped
        if lost is not None and lost.estimate > 0.05:
            found.append(f"{row.name} reads the planted mark: its AUC falls by {lost.estimate:.3f} when it is swapped.")
    found += [*_penalty(comparison), *(f"{name} failed: {reason}" for name, reason in comparison.failed.items())]
    return found


def _penalty(comparison: MethodComparison) -> list[str]:
    """Which weight of the penalty the in-domain rule takes; nothing where there are not two to choose from."""
    offered = comparison.offered_penalties
    if not offered:
        return []
    auc = next(row.in_domain_auc.estimate for row in comparison.methods if row.name == comparison.lungs_alone)
    lungs = f"what the lungs alone tell in-domain ({comparison.lungs_alone}: {auc:.3f})"
    chosen = comparison.chosen_penalty
    weights = ", ".join(f"{weight:g}" for weight in sorted(set(offered.values())))
    if chosen is None:
        return [f"No weight of the penalty among {weights} reaches {lungs}: try a smaller one, or train longer."]
    return [
        f"Of the weights of the penalty {weights}, {offered[chosen]:g} is the largest that reaches {lungs} within its "
        f"interval: take {chosen}. No external image has a part in this choice."
    ]


def _several(comparison: MethodComparison) -> int:
    """How many sites get a column of their own: one alone is the external AUC itself."""
    return len(comparison.sites) if len(comparison.sites) > 1 else 0


def _last(row: ComparedMethod) -> str:
    """Relevance in the lungs of all sites together."""
    found = list(row.relevance_in_lung.values())[-1]
    return interval_text(found)


def _slopes(rows: Sequence[ComparedMethod]) -> dict[str, dict[str, float]]:
    """Method to its AUCs from where it was trained to where it was not."""
    slopes = {}
    for row in rows:
        points = {"in-domain": row.in_domain_auc.estimate}
        for condition in ("biased", "clean", "swapped"):
            if condition in row.auc:
                name = "external" if len(row.auc) == 1 else f"external, {condition}"
                points[name] = list(row.auc[condition].values())[-1].estimate
        if len(row.auc) == 1:
            points["external"] = row.mean_auc.estimate
        slopes[row.name] = {name: value for name, value in points.items() if np.isfinite(value)}
    return slopes


def _differences(comparison: MethodComparison) -> list[tuple[str, Interval]]:
    return [
        (row.name, row.against_reference.interval) for row in comparison.methods if row.against_reference is not None
    ]
