"""What a study leaves behind: `report.html`, `report.json`, `metrics.csv`, `model_card.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.evaluation.calibration import BINS
from cxr_isnet.evaluation.checklists import answers
from cxr_isnet.evaluation.figures import calibration_figure, confusion_figure, forest_figure, roc_figure, sites_figure
from cxr_isnet.evaluation.page import figure_uri, file_uri, write_page
from cxr_isnet.evaluation.study import Study, study_json, study_table
from cxr_isnet.files import atomic_write, write_json

FILES = ("report.html", "report.json", "metrics.csv", "model_card.md")


def write_report(
    output: Path, study: Study, tables: Mapping[str, pd.DataFrame], galleries: Mapping[str, Path] | None = None
) -> None:
    """Write the four files into a folder that exists, each whole or not at all.

    Args:
        output: the folder.
        study: what was found.
        tables: name of the model to its predictions, for the ROC curves.
        galleries: title to a PNG of heatmaps.
    """
    with atomic_write(output / "metrics.csv") as partial:
        study_table(study).to_csv(partial, index=False)
    checklist = [asdict(answer) for answer in answers(study)]
    write_json(output / "report.json", {**study_json(study), "checklists": checklist})
    pictures = {title: file_uri(path) for title, path in (galleries or {}).items()}
    content = {"study": study, "galleries": pictures, "checklist": answers(study), "bins": BINS}
    figures = _figures(study, tables)
    write_page(output / "report.html", "evaluation_report.html", figures=figures, **content)
    write_page(output / "model_card.md", "model_card.md", figures={}, **content)


def _figures(study: Study, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Figures as SVG or, of confusion matrices, by model and site."""
    by_model: dict[str, Any] = {}
    for name, model in study.models.items():
        forest = forest_figure(model.groups)
        by_model[name] = {
            "roc": figure_uri(roc_figure(tables[name], study.classes)),
            "forest": None if forest is None else figure_uri(forest),
            "calibration": {
                s: figure_uri(calibration_figure(there, study.classes)) for s, there in model.sites.items()
            },
            "confusion": {
                s: figure_uri(confusion_figure(there.result, study.classes)) for s, there in model.sites.items()
            },
        }
    return {"sites": figure_uri(sites_figure(list(study.models.values()))), "models": by_model}
