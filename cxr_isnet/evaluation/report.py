"""What a study leaves behind: `report.html`, `report.json`, `metrics.csv`, `model_card.md`, and its numbers elsewhere.

Items of reporting guidelines that a run can answer are in the page; all others are the authors' to fill in. TRIPOD+AI:
Collins et al., BMJ 385:e078378 (2024). CLAIM 2024 update: Tejani et al., Radiology: Artificial Intelligence (2024). The
topics are in our words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.calibration import BINS
from cxr_isnet.evaluation.figures import calibration_figure, confusion_figure, forest_figure, roc_figure, sites_figure
from cxr_isnet.evaluation.interval import Interval
from cxr_isnet.evaluation.metrics import (
    class_metrics,
    compared_metrics,
    group_metrics,
    overall_metrics,
    summary_metrics,
)
from cxr_isnet.evaluation.model_evaluation import SiteEvaluation
from cxr_isnet.evaluation.page import figure_uri, file_uri, interval_text, text_columns, write_page
from cxr_isnet.evaluation.predictions_table import check_predictions
from cxr_isnet.evaluation.site import SiteResult
from cxr_isnet.evaluation.study import Study
from cxr_isnet.files import atomic_write, write_json

FILES = ("report.html", "report.json", "metrics.csv", "model_card.md")


def write_report(
    output: Path, study: Study, tables: Mapping[str, pd.DataFrame], galleries: Mapping[str, Path] | None = None
) -> None:
    """Write the four files, each whole or not at all; nothing is written before all could be made.

    Args:
        output: folder, made when it is missing.
        study: what was found.
        tables: name of the model to its predictions, for the ROC curves.
        galleries: title to a PNG of heatmaps.

    Raises:
        InputError: as `check_predictions`; `output` is, or lies below, a file.

    Example:
        >>> from cxr_isnet.evaluation import Settings, evaluate_table, read_predictions
        >>> table = read_predictions("runs/first/validation/clean/predictions.csv")
        >>> write_report(Path("."), evaluate_table(table, settings=Settings(resamples=50)), {"model": table})
        >>> sorted(path.name for path in Path(".").glob("*report*"))
        ['report.html', 'report.json']
    """
    checked = {name: check_predictions(tables[name], study.classes, source=name) for name in study.models}
    figures, guidelines = _figures(study, checked), answers(study)
    content = {
        "study": study,
        "metrics": {
            "summary": summary_metrics(),
            "overall": overall_metrics(),
            "by_class": class_metrics(),
            "groups": group_metrics(),
            "comparison": compared_metrics(),
        },
        "galleries": {title: file_uri(path) for title, path in (galleries or {}).items()},
        "checklist": guidelines,
        "bins": BINS,
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{output}: is, or lies below, a file. Name a folder for the results") from error
    with atomic_write(output / "metrics.csv") as partial:
        study_table(study).to_csv(partial, index=False)
    write_json(output / "report.json", {**study_json(study), "checklists": [asdict(answer) for answer in guidelines]})
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


def study_json(study: Study) -> dict[str, Any]:
    """The study as JSON can hold it: NaN becomes None. `study.schema.json` documents it."""
    plain: dict[str, Any] = plain_values(study)
    return {"schema_version": 2, **plain}


def plain_values(value: Any) -> Any:
    """Dataclasses as mappings, enums as their values, NaN as None."""
    if isinstance(value, (SiteResult, Interval)):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        named = {part.name: getattr(value, part.name) for part in fields(value)}
        return {name: plain_values(part) for name, part in named.items()}
    if isinstance(value, Mapping):
        return {str(key): plain_values(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def study_table(study: Study) -> pd.DataFrame:
    """Long table of every number with an interval.

    Returns:
        Columns: `model`; `part`, which is `site`, `internal_minus_external`, or `by` and the column that groups are
        made by; `group`, the site or group; `class`, "" for all together; `metric`; `method` of the interval, as
        `IntervalMethod`; `estimate`, `low`, `high`; and, but for differences, `n_images`, `n_patients`, and of sites
        `classes_present`.
    """
    rows: list[dict[str, Any]] = []
    for model in study.models.values():
        parts = {"validation": model.internal} if model.internal is not None else {}
        parts |= {f"validation without {site}": fold.internal for site, fold in model.folds.items()}
        for site, there in [*parts.items(), *model.sites.items()]:
            rows += [{"model": model.name, "part": "site", "group": site} | row for row in _site_rows(there)]
        for site, differences in model.internal_minus_external.items():
            at = {"model": model.name, "part": "internal_minus_external", "group": site, "class": ""}
            rows += [at | _number(metric, found) for metric, found in differences.items()]
        for grouping in model.groups:
            for group in grouping.groups:
                at = {"model": model.name, "part": f"by {grouping.column}", "group": group.group, "class": ""}
                counts = {"n_images": group.n_images, "n_patients": group.n_patients}
                rows += [at | _number(metric, found) | counts for metric, found in group.metrics.items()]
    return pd.DataFrame(rows)


def _site_rows(there: SiteEvaluation) -> list[dict[str, Any]]:
    result = there.result
    counts = {
        "n_images": result.n_labelled,
        "n_patients": result.n_patients,
        "classes_present": " ".join(result.classes_present),
    }
    rows = [
        {"class": name} | _number(metric, found)
        for name, intervals in {"": result.metrics, **result.by_class}.items()
        for metric, found in intervals.items()
    ]
    rows += [{"class": name} | _number("auc", found) for name, found in there.delong.items()]
    rows += [{"class": ""} | _number(metric, found) for metric, found in there.posterior.items()]
    return [row | counts for row in rows]


def _number(metric: str, found: Interval) -> dict[str, Any]:
    numbers = {"estimate": found.estimate, "low": found.low, "high": found.high}
    return {"metric": metric, "method": found.method.value, **numbers}


def study_metrics(study: Study) -> dict[str, float]:
    """Flat numbers for a tracking server, as `isnet.north.auc_low`."""
    return {
        f"{name}.{site}.{metric}": value
        for name, model in study.models.items()
        for site, there in model.sites.items()
        for metric, value in there.result.flat().items()
    }


def study_text(study: Study) -> str:
    """A table for the terminal: a line per model and site with counts and the metrics of the summary."""
    metrics = summary_metrics()
    rows = [["model", "site", "images", "patients", *(metric.words for metric in metrics)]]
    notes = []
    for name, model in study.models.items():
        for site, there in model.sites.items():
            result = there.result
            counts = [str(result.n_images), str(result.n_patients)]
            rows.append([name, site, *counts, *(interval_text(result.metrics[metric.name]) for metric in metrics)])
            missing = [c for c in study.classes if c not in result.classes_present]
            if missing:
                notes.append(f"{name}: no image of {', '.join(missing)} at {site}: AUC and means are without it")
        for reason, sites in model.without_relevance.items():
            notes.append(f"{name}: no relevance at {', '.join(sites)}: {reason}")
    notes += [f"{site} is not evaluated: {reason}" for site, reason in study.not_evaluated.items()]
    return "\n".join([*text_columns(rows), *notes])


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
        f"BCa bootstrap over patients ({study.settings.resamples} resamples), DeLong over patients, "
        "Dirichlet posterior; DeLong and McNemar tests with Holm's correction between models"
    )
    grouped = ", ".join(grouping.column for grouping in model.groups) or "no column to group by was given"
    internal = "in-domain validation set the rule" if model.internal or model.folds else "no validation table was given"
    scaled = {site: fold.temperature for site, fold in model.folds.items()} or {"": model.temperature}
    temperatures = [f"{value:.3g} {site}".strip() for site, value in scaled.items() if np.isfinite(value)]
    temperature = f"temperature scaling, reported beside the numbers as given: {', '.join(temperatures)}"
    return (
        Answer("TRIPOD+AI", "5a", "data sources", size),
        Answer("TRIPOD+AI", "11", "missing data", unlabelled),
        Answer("TRIPOD+AI", "12d", "heterogeneity between clusters", "every site by itself and all pooled"),
        Answer("TRIPOD+AI", "12e", "performance measures", methods),
        Answer("TRIPOD+AI", "12f", "updating", temperature if temperatures else "none"),
        Answer("TRIPOD+AI", "14", "fairness", f"groups: {grouped}"),
        Answer("TRIPOD+AI", "15", "output and threshold", model.rule.origin),
        Answer("TRIPOD+AI", "20b", "characteristics", f"labels: {cases}; groups: {grouped}"),
        Answer("TRIPOD+AI", "21", "numbers analysed", size),
        Answer("TRIPOD+AI", "23a", "performance with intervals", "sections Sites, Calibration and Groups"),
        Answer("TRIPOD+AI", "23b", "heterogeneity of performance", "section Sites"),
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
