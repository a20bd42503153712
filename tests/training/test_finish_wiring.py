"""What comes after the last epoch: evaluation, temperature, the model that is shipped, what the run is given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.trainer import Trainer
from cxr_isnet.evaluation import Settings
from cxr_isnet.inference import Classifier, FittedControls, PreparedImages, conditions
from cxr_isnet.manifests import digest, file_digest, read_manifests
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.tracking import LoggedModel
from cxr_isnet.training import TrainConfig, experiment, finish, train
from cxr_isnet.training.config import DataConfig
from cxr_isnet.training.partitions import read_partitions

CLASSES = ["normal", "tuberculosis"]
TINY = NetworkConfig("densenet_tiny")
MARK = MarkConfig(size=0.3, intensity=0.6)


class Listening:
    """A run that notes what is logged."""

    run_id, uri = "an id", "sqlite:///a.db"

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.artifacts: list[tuple[str, str | None]] = []
        self.datasets: dict[str, int] = {}
        self.tags: dict[str, object] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int, **_: Any) -> None:
        self.metrics |= {f"{name} {step}": value for name, value in metrics.items()}

    def log_steps(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        for step, metrics in steps.items():
            self.log_metrics(metrics, step)

    def send(self, what: str, call: Any) -> bool:
        call()
        return True

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.artifacts.append((path.name, folder))

    def log_dataset(self, frame: pd.DataFrame, name: str, *_: Any, **__: Any) -> None:
        self.datasets[name] = len(frame)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        self.tags |= tags

    def log_figure(self, figure: Any, name: str) -> None:
        self.artifacts.append((name, None))


@pytest.fixture(scope="module")
def finished(
    phantom_manifest: Path, external_manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A training with marks and an external hospital whose second epoch of three is its best: what came after it."""
    seen = SimpleNamespace(evaluated={}, run=Listening(), model={}, checked=[])
    losses = iter([3.0, 1.0, 2.0])
    study = SimpleNamespace(models={"cross_entropy": SimpleNamespace(sites={})})  # of no site

    @contextmanager
    def start_run(*_: Any, **__: Any) -> Iterator[Listening]:
        yield seen.run

    def evaluate(classifier: Classifier, frame: pd.DataFrame, output: Path, *args: Any, **kwargs: Any) -> Any:
        seen.evaluated[output.name] = (classifier, frame, *args, kwargs)
        (output / "clean").mkdir(parents=True)
        return {"clean": study}

    def log_classifier(run: Any, classifier: Classifier, example_paths: list[str], **kwargs: Any) -> LoggedModel:
        seen.model = {"run": run, "classifier": classifier, "example_paths": example_paths, **kwargs}
        return LoggedModel("models:/m-1", "m-1", "lungs", 1)

    seen.config = TrainConfig(
        DataConfig(
            [str(phantom_manifest)],
            CLASSES,
            [str(external_manifest)],
            ImageConfig(32),
            mark=MARK,
            validation_fraction=0.34,
        ),
        str(tmp_path_factory.mktemp("finished") / "run"),
        "cross_entropy",
        network=TINY,
        epochs=3,
        batch_size=4,
        seed=3,
        device=Device.CPU,
        resamples=7,
        register="lungs",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "start_run", start_run)
        patch.setattr(experiment, "open_store", lambda uri: uri)
        patch.setattr(experiment, "is_new", lambda uri: False)
        patch.setattr(experiment, "check_method", lambda *given: seen.checked.append(given))
        patch.setattr(finish, "evaluate_classifier", evaluate)
        patch.setattr(finish, "log_classifier", log_classifier)
        patch.setattr(finish, "results_table", lambda studies: ", ".join(studies))
        patch.setattr(Trainer, "_validate", lambda self: {"loss": next(losses), "auc": 0.5})
        seen.metrics = train(seen.config)
    return seen


def test_both_partitions_are_evaluated_with_the_settings_of_the_config(finished: SimpleNamespace) -> None:
    parts = read_partitions(finished.config.data, 3)

    assert list(finished.evaluated) == ["validation", "external"]
    for name, frame in (("validation", parts.validation), ("external", parts.external)):
        classifier, found, tried, settings, options = finished.evaluated[name]
        assert classifier.method == "cross_entropy"
        pd.testing.assert_frame_equal(found, frame)
        assert tried == conditions(MARK)
        assert settings == Settings(resamples=7, seed=3)
        assert options["model_uri"] == "an id"


def test_threshold_and_temperature_come_from_the_unmarked_validation_images_of_both_partitions(
    finished: SimpleNamespace,
) -> None:
    own = finished.evaluated["validation"][0].predict(
        list(read_partitions(finished.config.data, 3).validation["image"])
    )
    tables = [options["validation"] for *_, options in finished.evaluated.values()]

    for table in tables:
        np.testing.assert_allclose(table["probability_tuberculosis"], own["probability_tuberculosis"], atol=1e-6)
        assert set(table["model_uri"]) == {"an id"}
    assert list(finished.evaluated["validation"][-1]["predictions"]) == ["biased", "clean", "swapped"]
    assert finished.evaluated["external"][-1]["predictions"] is None


def test_what_is_shipped_is_the_best_network_with_its_temperature_and_where_it_comes_from(
    finished: SimpleNamespace,
) -> None:
    best = Classifier.load(Path(finished.config.output) / "best.pt")
    temperature = finished.metrics["calibration"]["temperature"]
    shipped = finished.model["classifier"]

    assert all(torch.equal(w, best.network.state_dict()[name]) for name, w in shipped.network.state_dict().items())
    assert best.temperature == shipped.temperature == temperature
    assert best.threshold == shipped.threshold is not None
    assert torch.equal(best.reference.mean, shipped.reference.mean)
    assert finished.model["metadata"] == {
        "method": "cross_entropy",
        "network": "densenet_tiny",
        "seed": 3,
        "temperature": temperature,
        "threshold": best.threshold,
    }
    assert "Trained on Alder: 8 images." in finished.model["description"]
    assert finished.model["register"] == "lungs"
    assert set(finished.model["example_paths"]) <= set(read_manifests(finished.config.data.training)["image"])


def test_metrics_json_names_the_best_epoch_and_how_the_network_came_about(finished: SimpleNamespace) -> None:
    kept = json.loads((Path(finished.config.output) / "metrics.json").read_text())

    names = ("method", "network", "seed", "epochs", "best_epoch")
    assert [kept[name] for name in names] == ["cross_entropy", "densenet_tiny", 3, 3, 2]


def test_the_run_gets_data_sets_epochs_calibration_and_files(finished: SimpleNamespace) -> None:
    run = finished.run

    assert run.datasets == {"training": 8, "validation": 4, "external": 8}
    assert run.metrics["epoch/validation_marked/loss 2"] == 1.0
    assert run.metrics["validation/temperature 3"] == finished.metrics["calibration"]["temperature"]
    assert {("clean", "validation"), ("clean", "external")} <= set(run.artifacts)
    assert {"config.yaml", "history.csv", "metrics.json", "loss_curves.png"} <= {name for name, _ in run.artifacts}


def test_the_run_says_which_tables_and_which_checkpoint_it_is_of(finished: SimpleNamespace) -> None:
    data, best = finished.config.data, Path(finished.config.output) / "best.pt"

    assert finished.run.tags.pop("mlflow.note.content") == finished.model["description"]
    assert finished.run.tags == {
        "digests.seen": digest(*data.training),
        "digests.external": digest(*data.external),
        "model_sha256": file_digest(best),
    }


def test_the_registered_name_is_looked_at_before_the_training(finished: SimpleNamespace) -> None:
    ((store, name, method),) = finished.checked

    assert store.endswith("mlflow.db")
    assert (name, method) == ("lungs", "cross_entropy")


def test_controls_that_learned_from_the_marked_training_images_stand_beside_both_partitions(
    finished: SimpleNamespace,
) -> None:
    parts = read_partitions(finished.config.data, 3)
    images = PreparedImages(CLASSES, ImageConfig(32))
    expected = FittedControls.on(images, parts.training, conditions(MARK)[0]).tables(parts.external)

    for *_, options in finished.evaluated.values():
        found = options["controls"].tables(parts.external)
        assert list(found) == ["thumbnail", "border", "mask_shape"]
        for name, table in found.items():
            pd.testing.assert_frame_equal(table, expected[name])
