"""What an evaluation leaves behind: the table it judged, its numbers and its figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.plots import evaluation_figures
from cxr_isnet.evaluation.predictions import check_predictions, write_predictions
from cxr_isnet.evaluation.site import SiteResult, evaluate_sites
from cxr_isnet.files import file_slug, replacing

DISCLAIMER = "Research software, not a medical device: not for diagnosis or treatment."
INTERVAL = "95% BCa interval of a bootstrap over patients"
FIGURE_DPI = 150


def write_evaluation(
    output: Path,
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    galleries: Mapping[str, Figure] | None = None,
) -> dict[str, SiteResult]:
    """Judge a predictions table and write `predictions.csv`, `metrics.json`, `metrics.csv`, `roc.png`,
    `confusion_<site>.png` and a PNG per gallery.

    Args:
        output: folder, made when it is missing. A file of the same name is replaced whole.
        predictions: the predictions table.
        classes: names of the classes, in the order of the network's outputs.
        resamples: bootstrap resamples of patients.
        seed: of the bootstrap.
        galleries: file name without suffix to figure.

    Returns:
        Site to result, "pooled" last when there are several sites.

    Raises:
        InputError: as `evaluate_sites`, before anything is written; two figures would share a file name;
        `output` is
            a file.
    """
    frame = check_predictions(predictions, classes)
    results = evaluate_sites(frame, classes, resamples=resamples, seed=seed)
    figures = _file_names(evaluation_figures(frame, results, classes) | dict(galleries or {}))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{output}: is, or lies below, a file. Name a folder for the results") from error
    write_predictions(frame, output / "predictions.csv")
    write_json(
        output / "metrics.json",
        {
            "classes": list(classes),
            "interval": {"method": INTERVAL, "resamples": resamples, "seed": seed},
            "sites": {site: result.to_dict() for site, result in results.items()},
        },
    )
    with replacing(output / "metrics.csv") as partial:
        metrics_table(results).to_csv(partial, index=False)
    for name, figure in figures.items():
        with replacing(output / name) as partial:
            figure.savefig(partial, dpi=FIGURE_DPI)
    return results


def metrics_table(results: Mapping[str, SiteResult]) -> pd.DataFrame:
    """Long table, a row per site, class ("" for all together) and metric: interval, resamples behind it, counts."""
    rows = []
    for site, result in results.items():
        counts = {"n_patients": result.n_patients, "classes_present": " ".join(result.classes_present)}
        for class_name, estimates in {"": result.estimates(), **result.by_class}.items():
            for name, estimate in estimates.items():
                n_images = result.n_relevance if name == "relevance_in_lung" else result.n_labelled
                row = {"site": site, "class": class_name, "metric": name, **asdict(estimate), "n_images": n_images}
                rows.append(row | counts)
    return pd.DataFrame(rows)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON that opens with the statement of what this software is not; whole or not at all.

    Raises:
        ValueError: `content` holds a NaN or an infinity, which JSON does not know.
    """
    with replacing(path) as partial:
        text = json.dumps({"disclaimer": DISCLAIMER, **content}, indent=2, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def _file_names(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    named: dict[str, Figure] = {}
    for name, figure in figures.items():
        file = f"{file_slug(name)}.png"
        if file in named:
            raise InputError(
                f"figure {name!r} would be written to {file}, as another is. Rename the site or the gallery"
            )
        named[file] = figure
    return named
