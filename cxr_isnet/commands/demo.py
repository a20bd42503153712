"""The demonstration: phantom hospitals, a mark planted into the background, a plain classifier and an ISNet.

Hospitals A and B are for training, hospital C is seen by neither; both methods get the same images, epochs and
settings.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.errors import InputError, hide_passwords
from cxr_isnet.evaluation import figure_uri, write_page
from cxr_isnet.files import atomic_write
from cxr_isnet.inference import Classifier, HeatmapCase, comparison_figure, conditions, heatmap_cases
from cxr_isnet.manifests import read_manifests
from cxr_isnet.objectives import find_method
from cxr_isnet.phantoms import write_study
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MethodSection:
    """One method's part of the page: its name, its numbers (as in `results.json`) and its heatmaps."""

    name: str
    results: dict[str, Any]
    cases: Sequence[HeatmapCase]


FEWEST_PATIENTS = 8


@dataclass(frozen=True)
class DemoConfig:
    """The demonstration's settings.

    Attributes:
        output: Folder for everything; what an earlier demonstration left in it is replaced.
        patients: X-rays per phantom hospital.
        methods: Methods to train, in this order.
        train: The training of each; its method and output are set here, its manifests are those of the phantom
            hospitals `<output>/data/hospital_a`, `_b` (training) and `_c` (external test), whatever it names. Its runs
            are logged to `<output>/mlflow.db` unless it names another store than the default.
    """

    train: TrainConfig
    output: str = "demo"
    patients: int = 150
    methods: tuple[str, ...] = ("cross_entropy", "isnet")

    def __post_init__(self) -> None:
        if self.patients < FEWEST_PATIENTS:
            raise InputError(
                f"patients is {self.patients}; {FEWEST_PATIENTS} per hospital are the fewest that can be divided into "
                "training and validation"
            )


def demo(config: DemoConfig) -> str:
    """Draws the hospitals, trains, tests on hospital C; writes `results.json` and `report.html`.

    Returns:
        The results as a text table.

    Raises:
        InputError: If the output folder holds anything but an earlier demonstration, a method is unknown, or there is
            no mark to plant.
    """
    output = Path(config.output)
    if config.train.data.mark is None:
        raise InputError("train.data.mark is null: the demonstration plants a mark; give its looks, e.g. {size: 0.14}")
    for method in config.methods:
        find_method(method)
    _clear(output)
    training, external = write_study(output / "data", patients=config.patients, seed=config.train.seed)
    data = replace(config.train.data, training=training, external=external)
    tracking = config.train.tracking
    if tracking.uri == TrackingConfig().uri:
        tracking = replace(tracking, uri=f"sqlite:///{output / 'mlflow.db'}")
    config = replace(config, train=replace(config.train, data=data, tracking=tracking))
    results: dict[str, dict[str, Any]] = {}
    for method in config.methods:
        folder = output / method
        metrics = train(replace(config.train, method=method, output=str(folder)))
        results[method] = _results(metrics)
    with atomic_write(output / "results.json") as partial:
        partial.write_text(json.dumps(results, indent=2) + "\n")
    write_demo_report(output / "report.html", [_section(config, m, results[m]) for m in config.methods])
    _log.info(
        "pictures: %s; runs: mlflow ui --backend-store-uri %s",
        output / "report.html",
        hide_passwords(config.train.tracking.uri),
    )
    return _table(results)


def _clear(output: Path) -> None:
    """Removes an earlier demonstration, and nothing else."""
    if not output.exists():
        output.mkdir(parents=True)
    elif output.is_file() or any(output.iterdir()):
        if not (output / "data" / "hospital_a").is_dir():
            raise InputError(f"output '{output}' holds something that is not a demonstration: name another folder")
        shutil.rmtree(output)
        output.mkdir()


def _results(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """AUCs on the one external hospital under the three tests, and the share of relevance in its lungs."""
    (site,) = metrics["external"]["clean"]
    by_test = {test: sites[site] for test, sites in metrics["external"].items()}
    return {
        **{f"auc_{test}": by_test[test]["metrics"]["auc"]["estimate"] for test in ("biased", "clean", "swapped")},
        "relevance_in_lung": by_test["biased"]["metrics"]["relevance_in_lung"]["estimate"],
        "relevance_in_lung_clean": by_test["clean"]["metrics"]["relevance_in_lung"]["estimate"],
        "network": metrics["network"],
        "epochs": metrics["epochs"],
        "seconds": metrics["seconds"],
    }


def _section(config: DemoConfig, method: str, results: Mapping[str, Any]) -> MethodSection:
    """Heatmaps of the same few ill and healthy patients of hospital C, with the mark, for the report."""
    classifier = Classifier.load(Path(config.output) / method / "best.pt")
    frame = read_manifests(config.train.data.external, classes=classifier.classes)
    condition = conditions(config.train.data.mark)[0]
    rows = pd.concat([frame[frame["label"] == c].head(2) for c in classifier.classes])
    return MethodSection(method, dict(results), heatmap_cases(classifier, rows, condition))


def _table(results: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"{'on hospital C':<14} {'AUC biased':>11} {'clean':>7} {'swapped':>8} {'in lungs':>19} {'seconds':>8}"]
    for method, r in results.items():
        aucs = f"{r['auc_biased']:>11.3f} {r['auc_clean']:>7.3f} {r['auc_swapped']:>8.3f}"
        lines.append(f"{method:<14} {aucs} {r['relevance_in_lung']:>19.3f} {r['seconds']:>8.0f}")
    return "\n".join(lines)


def write_demo_report(path: Path, sections: Sequence[MethodSection]) -> None:
    """Writes the page, and the comparison of the heatmaps as `heatmaps.png` beside it."""
    figure = comparison_figure({s.name: s.cases for s in sections})
    with atomic_write(path.with_name("heatmaps.png")) as partial:
        figure.savefig(partial)
    write_page(path, "demo_report.html", sections=sections, heatmaps=figure_uri(figure, "png"))
