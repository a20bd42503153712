"""A training of the segmenter: it learns, is resumed after a kill, and is logged."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from torch.utils.data import DataLoader

from cxr_isnet.data import ImageConfig, prepare_image, set_epoch
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.settings import OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.engine.trainer import Trainer
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter
from cxr_isnet.segmentation import QualityLimits, Segmenter, training
from cxr_isnet.segmentation.mask_evaluation import MaskEvaluation, evaluate_overlaps, overlap_table
from cxr_isnet.segmentation.pairs import PairSplits, read_pairs, read_splits
from cxr_isnet.segmentation.training import SegmentTrainConfig, pair_loaders, train_segmenter
from cxr_isnet.tracking import NullRun, TrackingConfig
from tests.checkpoints import Killed

ALONE = DistributedContext(0, 1, torch.device("cpu"))


def train(config) -> dict[str, MaskEvaluation]:
    return train_segmenter(
        config, read_splits(config.training, config.external, config.validation_fraction, config.seed)
    )


def test_a_segmenter_learns_the_lungs_of_phantoms_and_predicts_them_in_another_hospital(make_config, external_manifest):
    config = make_config(
        epochs=20,
        network=SegmenterConfig((8, 16, 16)),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        external=[str(external_manifest)],
        limits=QualityLimits(smallest_area=0.6),
        resamples=23,
    )

    evaluations = train(config)

    assert set(evaluations) == {"validation", "external"}
    assert evaluations["external"].sites["Birch"].estimates["dice"].estimate > 0.8
    assert len(evaluations["external"].table) == 8
    best = Segmenter.load(Path(config.output) / "best.pt")
    table = overlap_table(best, read_pairs(config.external), config.limits)
    pd.testing.assert_frame_equal(evaluations["external"].table, table)
    expected = evaluate_overlaps(table, resamples=23, seed=config.seed)["Birch"].estimates["dice"]
    assert evaluations["external"].sites["Birch"].estimates["dice"] == expected
    assert table["quality_flags"].str.startswith("area 0.").all()


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


@pytest.fixture
def splits(make_config) -> PairSplits:
    config = make_config()
    return read_splits(config.training, [], config.validation_fraction, config.seed)


def batches(loader: DataLoader, epoch: int) -> list[dict]:
    set_epoch(loader, epoch)
    return list(loader)


def paths(loader: DataLoader, epoch: int = 1) -> list[str]:
    return [path for batch in batches(loader, epoch) for path in batch["path"]]


def test_training_images_are_augmented_and_validation_images_are_as_in_use(make_config, splits):
    training, validation = pair_loaders(make_config(), splits, ALONE)

    (seen, *_), (unmoved, *_) = batches(training, 1), batches(validation, 1)
    moved = [prepare_image(read_image(path), ImageConfig(32)) for path in seen["path"]]
    prepared = [prepare_image(read_image(path), ImageConfig(32)) for path in unmoved["path"]]
    assert not any(torch.allclose(one, other, atol=0.01) for one, other in zip(seen["image"], moved, strict=True))
    assert torch.allclose(unmoved["image"], torch.stack(prepared), atol=1e-6)


def test_training_images_are_shuffled_by_seed_and_epoch_and_validation_images_are_in_order(make_config, splits):
    training, validation = pair_loaders(make_config(batch_size=1), splits, ALONE)
    other, _ = pair_loaders(make_config(batch_size=1, seed=1), splits, ALONE)

    assert sorted(paths(training)) == sorted(splits.training["image"])
    assert len({tuple(paths(training, 1)), tuple(paths(training, 2)), tuple(paths(other, 1))}) == 3
    assert paths(validation, 1) == paths(validation, 2) == list(splits.validation["image"])


def test_two_processes_share_the_batches_of_training_and_both_validate_all(make_config, splits):
    config = make_config(batch_size=4)
    loaders = [pair_loaders(config, splits, replace(ALONE, rank=rank, count=2)) for rank in (0, 1)]

    assert [len(batch["path"]) for training, _ in loaders for batch in batches(training, 1)] == [2] * 4
    assert not set(paths(loaders[0][0])) & set(paths(loaders[1][0]))
    assert all(paths(validation) == list(splits.validation["image"]) for _, validation in loaders)


def test_engine_and_log_get_what_the_config_says(make_config, external_manifest, monkeypatch):
    config = make_config(
        seed=5,
        epochs=7,
        patience=3,
        precision=Precision.BF16,
        optimizer=OptimizerConfig(learning_rate=0.5),
        external=[str(external_manifest)],
    )
    run, seen = Recorder(), {}

    class SeenTrainer(Trainer):
        def __init__(self, objective, training, validation, settings, context):
            seen.update(settings=settings, network=deepcopy(objective.network), validation=validation)
            super().__init__(objective, training, validation, settings, context)

    def stop(trainer, directory, context, **settings):
        seen.update(settings=(seen["settings"], settings["epochs"], settings["patience"]))
        raise Killed

    monkeypatch.setattr(training, "start_run", lambda *arguments, **named: run)
    monkeypatch.setattr(training, "Trainer", SeenTrainer)
    monkeypatch.setattr(training, "CheckpointedRun", stop)

    with pytest.raises(Killed):
        train(config)

    expected = TrainerSettings(config.optimizer, epochs=7, seed=5, precision=Precision.BF16)
    assert seen["settings"] == (expected, 7, 3)
    torch.manual_seed(5)
    drawn = build_segmenter(config.network).state_dict()
    assert all(torch.equal(weight, drawn[name]) for name, weight in seen["network"].state_dict().items())
    assert run.datasets == {
        "training": config.training[0],
        "validation": config.training[0],
        "external": config.external[0],
    }


def test_the_averaged_weights_are_kept(make_config):
    config = make_config(epochs=1, batch_size=1, optimizer=OptimizerConfig(learning_rate=3e-2, average=0.5))

    train(config)

    best = Segmenter.load(Path(config.output) / "best.pt").network.state_dict()
    state = torch.load(Path(config.output) / "last.pt", weights_only=True)["trainer"]
    assert all(torch.equal(weight, state["average"][f"module.network.{name}"]) for name, weight in best.items())
    assert not all(torch.equal(weight, state["objective"][f"network.{name}"]) for name, weight in best.items())


def test_a_training_that_was_killed_ends_with_the_weights_of_one_that_was_not(make_config, monkeypatch):
    whole, killed = make_config("whole", epochs=3), make_config("killed", epochs=3)
    train(whole)
    save, saved = RunDirectory.save, []

    def save_and_die(*arguments):
        save(*arguments)
        saved.append(arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save", save_and_die)
        with pytest.raises(Killed):
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
        self.datasets: dict[str, str] = {}

    def log_dataset(self, frame, name, context, digest, *, source):
        self.datasets[name] = source

    def log_metrics(self, metrics, step, **_):
        self.metrics.update({(name, step): value for name, value in metrics.items()})

    def log_steps(self, steps):
        for step, metrics in steps.items():
            self.log_metrics(metrics, step)

    def log_artifact(self, path, folder=None):
        self.artifacts.add(f"{folder}/{Path(path).name}" if folder else Path(path).name)

    def log_figure(self, figure, name):
        self.artifacts.add(name)


def test_a_run_gets_curves_overlaps_and_weights_but_no_table_of_patients_and_no_picture(make_config, monkeypatch):
    run = Recorder()
    monkeypatch.setattr(training, "start_run", lambda *arguments, **named: run)

    evaluations = train(make_config())

    mean = evaluations["validation"].sites["Alder"].estimates["dice"].estimate
    assert run.metrics["validation/Alder/dice", 2] == pytest.approx(mean)
    assert {("epoch/validation/dice", 1), ("epoch/validation/dice", 2)} <= run.metrics.keys()
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
    assert run.data.metrics["validation/Alder/dice"] == pytest.approx(mean)
    assert len(client.get_metric_history(run.info.run_id, "epoch/validation/dice")) == 2
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
