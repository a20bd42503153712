"""What a study leaves behind: `report.html`, `report.json`, `metrics.csv`, `model_card.md`, numbers for elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.across_sites import FEW_SITES
from cxr_isnet.evaluation.calibration import BINS
from cxr_isnet.evaluation.control_comparison import control_sentences
from cxr_isnet.evaluation.figures import calibration_figure, confusion_figure, forest_figure, roc_figure, sites_figure
from cxr_isnet.evaluation.guidelines import answers
from cxr_isnet.evaluation.interval import FEW_PATIENTS, Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import (
    class_metrics,
    compared_metrics,
    group_metrics,
    overall_metrics,
    summary_metrics,
)
from cxr_isnet.evaluation.model_evaluation import SiteEvaluation
from cxr_isnet.evaluation.page import figure_uri, file_uri, interval_text, listed, printable, text_columns, write_page
from cxr_isnet.evaluation.predictions_table import check_predictions
from cxr_isnet.evaluation.site import SiteResult
from cxr_isnet.evaluation.study import Study
from cxr_isnet.files import write_json
from cxr_isnet.tables import write_table

WITHIN_SITES = "mean within sites"

NET_BENEFIT_AT = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Threshold probabilities of the net benefit in `metrics.csv`; all others are in `report.json`."""

APPROXIMATE = (
    f"~: an approximate interval, of fewer than {FEW_PATIENTS} patients of a kind or {FEW_SITES} sites, or of a method "
    "that is known not to cover 95%"
)

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
        "approximate": APPROXIMATE,
        "metrics": {
            "summary": summary_metrics(),
            "overall": overall_metrics(),
            "by_class": class_metrics(),
            "groups": group_metrics(),
            "comparison": compared_metrics(),
        },
        "galleries": {title: file_uri(path) for title, path in (galleries or {}).items()},
        "checklist": guidelines,
        "control_sentences": control_sentences(study.controls),
        "bins": BINS,
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{output}: is, or lies below, a file. Name a folder for the results") from error
    write_table(study_table(study), output / "metrics.csv")
    write_json(output / "report.json", {**study_json(study), "checklists": [asdict(answer) for answer in guidelines]})
    write_page(output / "report.html", "evaluation_report.html", figures=figures, **content)
    write_page(output / "model_card.md", "model_card.md", figures={}, **content)


def _figures(study: Study, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Figures as SVG or, of confusion matrices, by model and site."""
    by_model: dict[str, Any] = {}
    for name, model in study.models.items():
        forest = forest_figure(model.groups)
        by_model[name] = {
            "roc": figure_uri(roc_figure(tables[name], study.classes, model.sites)),
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
    return {"schema_version": 3, **plain, "findings": study.findings}


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
        Columns: `model`; `part`, which is `site`, `within sites`, `hospitals` (random effects), `next hospital`
        (prediction interval), `internal_minus_external`, or `by` and the column that groups are made by; `group`, the
        site or group; `class`, "" for all together; `metric`; `method` of the interval, as `IntervalMethod`;
        `estimate`, `low`, `high`, `approximate`; and, but for differences, `n_images`, `n_patients`, and of sites
        `classes_present`.
    """
    rows: list[dict[str, Any]] = []
    for model in study.models.values():
        parts = {"validation": model.internal} if model.internal is not None else {}
        parts |= {f"validation without {site}": fold.internal for site, fold in model.folds.items()}
        for site, there in [*parts.items(), *model.sites.items()]:
            rows += [{"model": model.name, "part": "site", "group": site} | row for row in _site_rows(there)]
        for key, across in model.across_sites.items():
            metric, _, of_class = key.partition(" of ")
            at = {"model": model.name, "group": "", "class": of_class}
            summaries = [across.mean, across.hospitals, across.next_hospital]
            for part, found in zip(("within sites", "hospitals", "next hospital"), summaries, strict=True):
                rows.append(at | {"part": part} | _number(metric, found))
        for site, differences in model.internal_minus_external.items():
            at = {"model": model.name, "part": "internal_minus_external", "group": site, "class": ""}
            rows += [at | _number(metric, found) for metric, found in differences.items()]
        for grouping in model.groups:
            for group in grouping.groups:
                at = {"model": model.name, "part": f"by {grouping.column}", "group": group.group, "class": ""}
                counts = {"n_images": group.n_images, "n_patients": group.n_patients}
                rows += [at | _number(metric, found) | counts for metric, found in group.metrics.items()]
            if grouping.worst:
                at = {"model": model.name, "part": f"by {grouping.column}", "class": ""}
                extremes = {f"worst: {grouping.worst}": grouping.worst_value, "best minus worst": grouping.gap}
                rows += [at | {"group": name} | _number(grouping.metric, found) for name, found in extremes.items()]
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
    for name, curve in there.decision_curve.items():
        at = [curve.thresholds.index(threshold) for threshold in NET_BENEFIT_AT]
        found = [Interval(curve.model[i], curve.low[i], curve.high[i], IntervalMethod.STUDENT) for i in at]
        keys = [f"net_benefit_at_{threshold:g}" for threshold in NET_BENEFIT_AT]
        rows += [{"class": name} | _number(key, one) for key, one in zip(keys, found, strict=True)]
    return [row | counts for row in rows]


def _number(metric: str, found: Interval) -> dict[str, Any]:
    numbers = {"estimate": found.estimate, "low": found.low, "high": found.high}
    return {"metric": metric, "method": found.method.value, **numbers, "approximate": found.approximate}


def study_metrics(study: Study) -> dict[str, float]:
    """Flat numbers for a tracking server, as `isnet/north/auc_low` and, of several sites, `isnet/within_sites/auc`."""
    numbers: dict[str, float] = {}
    for name, model in study.models.items():
        for site, there in model.sites.items():
            numbers |= {f"{name}/{site}/{metric}": value for metric, value in there.result.flat().items()}
        for metric in overall_metrics() if model.across_sites else ():
            mean = model.across_sites[metric.name].mean
            key = f"{name}/within_sites/{metric.name}"
            numbers |= {key: mean.estimate, f"{key}_low": mean.low, f"{key}_high": mean.high}
    return numbers


def study_text(study: Study) -> str:
    """A table for the terminal: per model the mean within sites, every site, and all pooled; then what follows from
    it."""
    metrics = summary_metrics()
    rows = [["model", "site", "images", "patients", *(metric.words for metric in metrics)]]
    notes = []
    for name, model in study.models.items():
        if model.across_sites:
            means = (interval_text(model.across_sites[metric.name].mean) for metric in metrics)
            rows.append([name, WITHIN_SITES, "", "", *means])
        for site, there in model.sites.items():
            result = there.result
            counts = [str(result.n_images), str(result.n_patients)]
            rows.append([name, site, *counts, *(interval_text(result.metrics[metric.name]) for metric in metrics)])
        for of_class in study.classes:
            without = [site for site, there in model.sites.items() if of_class not in there.result.classes_present]
            if without:
                notes.append(f"{name}: no image of {of_class} at {listed(without)}: AUC and means are without it")
        for reason, sites in model.without_relevance.items():
            notes.append(f"{name}: no relevance at {listed(sites)}: {reason}")
    lines = text_columns(rows)
    if any("(~" in line for line in lines):
        notes.append(APPROXIMATE)
    for name, model in study.models.items():
        notes += [f"{name}: no groups by {column}: {reason}" for column, reason in model.skipped_groups.items()]
    notes += [f"{site} is not evaluated: {reason}" for site, reason in study.not_evaluated.items()]
    return "\n".join([*lines, *map(printable, [*notes, *study.findings, *control_sentences(study.controls)])])
