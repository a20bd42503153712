"""What a study leaves behind: `report.html`, `report.json`, `metrics.csv`, `model_card.md`."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from cxr_isnet import __version__
from cxr_isnet.evaluation.calibration import BINS
from cxr_isnet.evaluation.checklists import answers
from cxr_isnet.evaluation.plots import confusion_figure, roc_figure
from cxr_isnet.evaluation.report import DISCLAIMER, write_json
from cxr_isnet.evaluation.study import Study, study_json, study_table
from cxr_isnet.evaluation.study_figures import calibration_figure, forest_figure, sites_figure
from cxr_isnet.files import replacing

FILES = ("report.html", "report.json", "metrics.csv", "model_card.md")


def write_study(
    output: Path, study: Study, tables: Mapping[str, pd.DataFrame], galleries: Mapping[str, Path] | None = None
) -> None:
    """Write the four files into a folder that exists, each whole or not at all.

    Args:
        output: the folder.
        study: what was found.
        tables: name of the model to its predictions, for the ROC curves.
        galleries: title to a PNG of heatmaps.
    """
    with replacing(output / "metrics.csv") as partial:
        study_table(study).to_csv(partial, index=False)
    checklist = [asdict(answer) for answer in answers(study)]
    write_json(output / "report.json", {**study_json(study), "checklists": checklist})
    for template, name in (("study_report.html", "report.html"), ("model_card.md", "model_card.md")):
        environment = _environment(escaped=name.endswith(".html"))
        figures = _figures(study, tables) if name.endswith(".html") else {}
        pictures = {title: _png(path.read_bytes()) for title, path in (galleries or {}).items()}
        text = environment.get_template(template).render(
            study=study,
            figures=figures,
            galleries=pictures,
            checklist=answers(study),
            disclaimer=DISCLAIMER,
            version=__version__,
            bins=BINS,
        )
        with replacing(output / name) as partial:
            partial.write_text(text, encoding="utf-8")


def _environment(*, escaped: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("cxr_isnet.evaluation"),
        autoescape=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "interval": interval, "p": p_value, "words": words}
    return environment


def number(value: float | None) -> str:
    """Three digits after the point; a dash where undefined, which is None in JSON that was read."""
    return f"{value:.3f}" if value is not None and np.isfinite(value) else "\u2013"


def interval(estimate: Any) -> str:
    """Value and 95% interval of an `Estimate`, a `WaldEstimate` or, by its mean, a `Credible`."""
    value = estimate.mean if hasattr(estimate, "mean") else estimate.value
    if not np.isfinite(value):
        return "\u2013"
    if not np.isfinite(estimate.low):
        return f"{number(value)} (no interval)"
    return f"{number(value)} ({number(estimate.low)} to {number(estimate.high)})"


def p_value(value: float) -> str:
    """Three digits, or that it is below 0.001; a dash where undefined."""
    if not np.isfinite(value):
        return "\u2013"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def words(name: str) -> str:
    """Name of a metric as a reader says it."""
    special = {"auc": "AUC", "ppv": "PPV", "npv": "NPV", "f1": "F1", "macro_f1": "macro F1"}
    if name.endswith("_at_prevalence"):
        return f"{name.removesuffix('_at_prevalence').upper()} at stated prevalence"
    return special.get(name, name.replace("_", " "))


def _figures(study: Study, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Figures as SVG or, of confusion matrices, by model and site."""
    by_model: dict[str, Any] = {}
    for name, model in study.models.items():
        forest = forest_figure(model.groups)
        by_model[name] = {
            "roc": _svg(roc_figure(tables[name], study.classes)),
            "forest": None if forest is None else _svg(forest),
            "calibration": {s: _svg(calibration_figure(there, study.classes)) for s, there in model.sites.items()},
            "confusion": {s: _svg(confusion_figure(there.result, study.classes)) for s, there in model.sites.items()},
        }
    return {"sites": _svg(sites_figure(list(study.models.values()))), "models": by_model}


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png(content: bytes) -> Markup:
    return Markup("data:image/png;base64," + base64.b64encode(content).decode())
