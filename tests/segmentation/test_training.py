"""A training of the segmenter: it learns, is resumed after a kill, and is logged."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient

from cxr_isnet.data import ImageConfig
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.settings import OptimizerConfig, Precision
from cxr_isnet.errors import InputError
from cxr_isnet.networks.lung_unet import SegmenterConfig
from cxr_isnet.segmentation import Segmenter, training
from cxr_isnet.segmentation.pairs import read_splits
from cxr_isnet.segmentation.training import MaskEvaluation, SegmentTrainConfig, train_segmenter
from cxr_isnet.tracking import NullRun, TrackingConfig


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


class KilledError(BaseException):
    """Stands for a signal: nothing catches it."""


def train(config) -> dict[str, MaskEvaluation]:
    return train_segmenter(
        config, read_splits(config.training, config.external, config.validation_fraction, config.seed)
    )


def test_a_segmenter_learns_the_lungs_of_phantoms_and_finds_them_in_another_hospital(make_config, external_manifest):
    config = make_config(
        epochs=20,
        network=SegmenterConfig((8, 16, 16)),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        external=[str(external_manifest)],
    )

    evaluations = train(config)

    assert set(evaluations) == {"validation", "external"}
    assert evaluations["external"].sites["Birch"].estimates["dice"].estimate > 0.8
    assert len(evaluations["external"].table) == 8


def test_a_training_leaves_its_segmenter_history_and_evaluation(make_config):
    config = make_config()

    evaluations = train(config)

    folder = Path(config.output)
    assert {path.name for path in folder.iterdir()} == {
        "best.pt",
        "config.yaml",
        "history.csv",
        "last.pt",
        "manifests.json",
        "metrics.json",
        "validation",
    }
    assert {path.name for path in (folder / "validation").iterdir()} == {
        "overlaps.csv",
        "overlaps.json",
        "typical.png",
        "worst.png",
    }
    assert Segmenter.load(folder / "best.pt").image == config.image
    history = pd.read_csv(folder / "history.csv")
    assert list(history["split"]) == ["training", "validation"] * 2
    assert {"loss", "dice"} <= set(history.columns)
    metrics = yaml.safe_load((folder / "metrics.json").read_text())
    mean = evaluations["validation"].sites["Alder"].estimates["dice"].estimate
    assert metrics["validation"]["Alder"]["dice"]["estimate"] == pytest.approx(mean)


def test_a_training_that_was_killed_ends_with_the_weights_of_one_that_was_not(make_config, monkeypatch):
    whole, killed = make_config("whole", epochs=3), make_config("killed", epochs=3)
    train(whole)
    save, saved = RunDirectory.save, []

    def save_and_die(*arguments):
        save(*arguments)
        saved.append(arguments)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save", save_and_die)
        with pytest.raises(KilledError):
            train(killed)
    with pytest.raises(InputError, match="--resume true"):
        train(killed)

    train(replace(killed, resume=True))

    assert len(saved) == 1
    assert (Path(whole.output) / "history.csv").read_bytes() == (Path(killed.output) / "history.csv").read_bytes()
    one, other = (Segmenter.load(Path(config.output) / "best.pt").network.state_dict() for config in (whole, killed))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_training_does_not_go_on_with_another_table(make_config, phantom_table, tmp_path):
    manifest = tmp_path / "manifest.csv"
    phantom_table.to_csv(manifest, index=False)
    config = make_config(training=[str(manifest)], epochs=1)
    train(config)
    phantom_table[1:].to_csv(manifest, index=False)

    with pytest.raises(InputError, match=r"manifest\.csv: changed since the training in output"):
        train(replace(config, resume=True))


def test_bfloat16_trains_a_segmenter_of_float32(make_config):
    config = make_config(epochs=1, precision=Precision.BF16)

    train(config)

    weights = Segmenter.load(Path(config.output) / "best.pt").network.state_dict().values()
    assert all(weight.dtype in (torch.float32, torch.int64) for weight in weights)
    assert all(torch.isfinite(weight).all() for weight in weights)


class Recorder(NullRun):
    """Keeps what is logged in memory."""

    def __init__(self) -> None:
        self.metrics: dict[tuple[str, int], float] = {}
        self.artifacts: set[str] = set()

    def log_metrics(self, metrics, step):
        self.metrics.update({(name, step): value for name, value in metrics.items()})

    def log_artifact(self, path, folder=None):
        self.artifacts.add(f"{folder}/{Path(path).name}" if folder else Path(path).name)

    def log_figure(self, figure, name):
        self.artifacts.add(name)


def test_a_run_gets_curves_overlaps_and_weights_but_no_table_of_patients_and_no_picture(make_config, monkeypatch):
    run = Recorder()
    monkeypatch.setattr(training, "start_run", lambda *arguments, **named: run)

    evaluations = train(make_config())

    mean = evaluations["validation"].sites["Alder"].estimates["dice"].estimate
    assert run.metrics["validation.Alder.dice", 2] == pytest.approx(mean)
    assert {("validation.dice", 1), ("validation.dice", 2)} <= run.metrics.keys()
    assert run.artifacts == {
        "best.pt",
        "config.yaml",
        "history.csv",
        "loss_curves.png",
        "metrics.json",
        "validation/overlaps.json",
    }


@pytest.mark.slow
def test_mlflow_keeps_a_run(make_config, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    config = make_config(tracking=TrackingConfig(uri=uri, experiment="lungs"))

    evaluations = train(config)

    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("lungs").experiment_id])
    assert run.data.params["network.channels"] == "[4, 8]"
    mean = evaluations["validation"].sites["Alder"].estimates["dice"].estimate
    assert run.data.metrics["validation.Alder.dice"] == pytest.approx(mean)
    assert len(client.get_metric_history(run.info.run_id, "validation.dice")) == 2
    kept = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"best.pt", "config.yaml", "metrics.json", "loss_curves.png"} <= kept
    assert [a.path for a in client.list_artifacts(run.info.run_id, "validation")] == ["validation/overlaps.json"]


TRAIN = {"training": ["a.csv"], "output": "run"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": []}, "training"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"resamples": 0}, "resamples"),
        ({"patience": 0}, "patience"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"seed": -1}, "seed"),
        ({"workers": -1}, "workers"),
        ({"image": ImageConfig(100)}, "image.size is 100.*multiple of 16"),
        ({"image": ImageConfig(64), "network": SegmenterConfig((2,) * 8)}, "multiple of 128"),
        ({"external": ["a.csv"]}, "unseen"),
    ],
    ids=str,
)
def test_a_training_that_cannot_be_is_refused(changes, named):
    with pytest.raises(InputError, match=named):
        SegmentTrainConfig(**{**TRAIN, **changes})
