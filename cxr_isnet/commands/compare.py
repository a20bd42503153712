"""`cxr-isnet compare`: methods trained with several seeds on the same data, side by side on external hospitals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.config import as_plain
from cxr_isnet.engine import RunDirectory
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import (
    COMPARISON_FILES,
    Settings,
    compare_methods,
    comparison_text,
    flat_numbers,
    write_comparison,
)
from cxr_isnet.inference import Classifier, HeatmapCase, comparison_figure, conditions, heatmap_cases
from cxr_isnet.manifests import read_manifests
from cxr_isnet.phantoms import write_study
from cxr_isnet.tracking import TrackingConfig, check_store, nested_in, start_run
from cxr_isnet.training import (
    TrainConfig,
    Trial,
    controls_of,
    heatmap_weights,
    plan_trials,
    read_experiment_config,
    run_trials,
    shared_images,
    trial_costs,
    trial_tables,
    with_settings,
)

_CASES = 2
"""Images of each class in the gallery of heatmaps."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Comparison of methods: every method trained with every seed, evaluated on the same external hospitals.

    Attributes:
        experiment: Config (YAML) of a training, or the name of a recipe: what the methods have in common. Its method,
            seed, output and register are ignored.
        output: Folder for the results and, in `trainings`, the trainings. A comparison in it is resumed: finished
            trainings are kept, interrupted ones go on.
        methods: Methods to compare.
        variants: More rows: name to the settings in which it differs from the experiment, as
            `{isnet_weak: {method: isnet, options: {isnet: {heatmap_weight: 0.2}}}}`.
        seeds: A training of each method for every seed.
        reference: The method that every other is tested against.
        settings: Settings of the experiment to be changed for all, nested as in YAML, as `{epochs: 3}`.
        phantom_patients: Draws phantom hospitals with so many patients each into `<output>/data` and compares on them,
            whatever hospitals the experiment names; 0 draws none.
        parallel: Trainings at a time, in processes that share the cores, or with a GPU each.
        ray: Address of a Ray cluster that trains instead, as `auto`; null for none. Needs the extra `ray`.
        resamples: Bootstrap resamples of each interval.
        tracking: MLflow: a parent run, and a child for each training.
    """

    experiment: str
    output: str
    methods: list[str] = field(default_factory=lambda: ["cross_entropy", "isnet"])
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    reference: str = "isnet"
    settings: dict[str, Any] = field(default_factory=dict)
    phantom_patients: int = 0
    parallel: int = 1
    ray: str | None = None
    resamples: int = 2000
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        for name in ("parallel", "resamples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.phantom_patients < 0:
            raise InputError(f"phantom_patients is {self.phantom_patients}; it must be 0 or more")
        if self.reference not in (*self.methods, *self.variants):
            raise InputError(
                f"reference is '{self.reference}', which is none of the methods {[*self.methods, *self.variants]}"
            )


def compare(config: CompareConfig) -> tuple[str, int]:
    """Trains what is not trained yet, evaluates, and writes the comparison.

    Leaves `report.html`, `comparison.csv` and `comparison.json` in the output folder and in MLflow.

    Returns:
        The results as a text table; and 0, or 1 if a training failed.

    Raises:
        InputError: A setting, a table or a file cannot be used; nothing has been trained then. Or no training finished.
    """
    with RunDirectory(Path(config.output) / "comparison").held():
        return _compare_held(config)


def _compare_held(config: CompareConfig) -> tuple[str, int]:
    """As `compare`, while no other process compares into the output folder."""
    output = Path(config.output)
    experiment = with_settings(read_experiment_config(config.experiment), config.settings, "settings")
    experiment = replace(experiment, tracking=config.tracking, output="", register=None, resume=False)
    if config.phantom_patients:
        experiment = _on_phantoms(experiment, output / "data", config.phantom_patients)
    if not experiment.data.external:
        raise InputError(f"{config.experiment}: data.external is empty: name the manifest of an external hospital")
    remembered = {"experiment": _common(experiment), "phantom_patients": config.phantom_patients}
    with shared_images(experiment.data, output / "images") as data:
        return _compare_on(replace(experiment, data=data), config, remembered)


def _compare_on(experiment: TrainConfig, config: CompareConfig, remembered: Mapping[str, Any]) -> tuple[str, int]:
    """Compares on the experiment's images."""
    output = Path(config.output)
    trials = plan_trials(experiment, output, config.methods, config.variants, config.seeds)
    manifests = [*experiment.data.training, *experiment.data.external]
    directory = RunDirectory(output / "comparison")
    directory = RunDirectory.open(str(directory.path), remembered, manifests, resume=directory.config_file.is_file())
    check_store(config.tracking, directory.run_id())
    with start_run(
        config.tracking,
        kind="comparison",
        name=f"comparison ({output.name})",
        parameters=as_plain(config),
        tags={"reference": config.reference},
        run_id=directory.run_id(),
    ) as run:
        directory.begin(remembered, manifests, run.run_id, run.uri)
        failed = run_trials(trials, output / "logs", parallel=config.parallel, ray=config.ray, tags={**nested_in(run)})
        finished = _by_method([trial for trial in trials if trial.finished])
        comparison = compare_methods(
            {name: [trial_tables(trial) for trial in found] for name, found in finished.items()},
            experiment.data.classes,
            config.reference,
            Settings(config.resamples),
            controls=controls_of(experiment.data, config.seeds),
            costs={name: trial_costs(found) for name, found in finished.items()},
            failed=failed,
            penalties=heatmap_weights(trials, config.reference),
            lungs_alone="lungs_only",
        )
        write_comparison(output, comparison, _gallery(experiment, finished))
        for row in comparison.methods:
            run.log_metrics({f"{row.name}/{key}": value for key, value in flat_numbers(row).items()}, 0)
        for name in COMPARISON_FILES:
            if (output / name).is_file():
                run.log_artifact(output / name)
    return comparison_text(comparison), int(bool(failed))


def _common(experiment: TrainConfig) -> dict[str, Any]:
    """What all trainings share and a resumed comparison must share with them."""
    plain: dict[str, Any] = as_plain(experiment)
    return {key: value for key, value in plain.items() if key not in ("method", "seed", "options")}


def _on_phantoms(experiment: TrainConfig, folder: Path, patients: int) -> TrainConfig:
    """The experiment on phantom hospitals, which are drawn unless they are there."""
    training, external = write_study(folder, patients=patients, seed=0)
    return replace(experiment, data=replace(experiment.data, training=training, external=external))


def _by_method(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.method, []).append(trial)
    return found


def _gallery(experiment: TrainConfig, finished: Mapping[str, Sequence[Trial]]) -> Any:
    """Heatmaps of the first training of each method on the same few images; None where none has maps."""
    frame = read_manifests(experiment.data.external, classes=experiment.data.classes)
    frame = frame[frame["mask"] != ""] if (frame["mask"] != "").any() else frame
    rows = pd.concat([frame[frame["label"] == name].head(_CASES) for name in experiment.data.classes])
    condition = conditions(experiment.data.mark)[0]
    cases: dict[str, list[HeatmapCase]] = {}
    for name, trials in finished.items():
        classifier = Classifier.load(trials[0].directory.best_file, trust=True)
        found = heatmap_cases(classifier, rows, condition)
        if found:
            cases[name] = found
    return comparison_figure(cases) if cases else None
