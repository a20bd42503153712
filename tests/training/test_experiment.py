import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient

from cxr_isnet.data import ImageConfig, pairs
from cxr_isnet.engine.checkpoint import load_state
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.settings import OptimizerConfig, Precision
from cxr_isnet.engine.trainer import Trainer
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.phantoms import PhantomHospital, write_hospital
from cxr_isnet.tracking import TrackingConfig, load_model
from cxr_isnet.training import TrainConfig, finish, train
from cxr_isnet.training.config import DataConfig
from cxr_isnet.training.partitions import read_partitions
from tests.checkpoints import Killed, weights


def with_validation(monkeypatch, outcomes):
    """Lets the epochs' validation losses be those of `outcomes`."""
    shown = iter(outcomes)
    monkeypatch.setattr(Trainer, "_validate", lambda self: {"loss": next(shown), "auc": 0.5})


def test_a_training_leaves_its_files(trained):
    files = {"config.yaml", "manifests.json", "best.pt", "last.pt", "history.csv", "metrics.json", "validation"}
    assert files == {file.name for file in trained.iterdir()}
    assert yaml.safe_load((trained / "config.yaml").read_text())["batch_size"] == 4
    metrics = json.loads((trained / "metrics.json").read_text())
    assert (metrics["method"], metrics["network"], metrics["epochs"]) == ("cross_entropy", "densenet_tiny", 1)


def test_metrics_json_says_what_the_training_returned(tracked):
    config, metrics, _, _ = tracked

    kept = json.loads((Path(config.output) / "metrics.json").read_text())

    assert json.loads(json.dumps(metrics)).items() <= kept.items()


@pytest.mark.usefixtures("unevaluated")
def test_the_history_has_the_terms_of_every_epoch_and_the_best_is_its_lowest_validation_loss(make_config):
    config = make_config(method="isnet", epochs=3)

    train(config)

    history = pd.read_csv(Path(config.output) / "history.csv")
    validation = history[history["split"] == "validation"].set_index("epoch")
    assert list(history["epoch"]) == [1, 1, 2, 2, 3, 3]
    assert {"loss", "classification", "heatmap", "background", "foreground"} <= set(history.columns)
    assert load_state(Path(config.output) / "last.pt")["best_epoch"] == validation["loss"].idxmin()


@pytest.mark.usefixtures("unevaluated")
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(make_config, kill_at):
    settings = {"method": "isnet", "epochs": 2, "optimizer": OptimizerConfig(average=0.9)}
    whole, killed = make_config("whole", **settings), make_config("killed", **settings)
    train(whole)

    kill_at(RunDirectory, "save", 1)
    with pytest.raises(Killed):
        train(killed)
    torch.manual_seed(12345)
    train(replace(killed, resume=True))

    for file in ("best.pt", "last.pt"):
        expected, found = weights(whole.output, file), weights(killed.output, file)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    histories = [pd.read_csv(Path(config.output) / "history.csv") for config in (whole, killed)]
    pd.testing.assert_frame_equal(*histories)


@pytest.mark.usefixtures("unevaluated")
def test_a_training_killed_before_its_first_epoch_was_kept_begins_again(make_config, kill_at):
    whole, killed = make_config("whole"), make_config("killed")
    train(whole)
    kill_at(RunDirectory, "save", 1, before=True)
    with pytest.raises(Killed):
        train(killed)

    train(replace(killed, resume=True))

    expected, found = weights(whole.output), weights(killed.output)
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_training_killed_while_its_model_is_logged_counts_as_unfinished(make_config, kill_at):
    config = make_config(epochs=1)
    finished = Path(config.output) / "metrics.json"
    kill_at(finish, "_log_model", 1, before=True)
    with pytest.raises(Killed):
        train(config)
    assert not finished.exists()

    metrics = train(replace(config, resume=True))

    assert json.loads(finished.read_text()).items() >= metrics.items()


@pytest.mark.usefixtures("unevaluated")
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_config):
    configs = [make_config(name, seed=seed, epochs=1) for name, seed in (("a", 0), ("b", 0), ("c", 1))]

    for config in configs:
        train(config)

    first, same, other = (weights(config.output) for config in configs)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first[".weights.features.conv0.weight"], other[".weights.features.conv0.weight"])


@pytest.mark.usefixtures("unevaluated")
def test_a_running_average_is_what_is_kept(make_config):
    plain, averaged = make_config("plain", epochs=1), make_config("averaged", epochs=1)

    train(plain)
    train(replace(averaged, optimizer=OptimizerConfig(average=0.9)))

    assert not torch.equal(
        weights(plain.output)[".weights.features.conv0.weight"],
        weights(averaged.output)[".weights.features.conv0.weight"],
    )


@pytest.mark.usefixtures("unevaluated")
def test_training_ends_when_patience_is_used_up_and_keeps_the_best(make_config, monkeypatch):
    with_validation(monkeypatch, [3.0, 2.0, 2.5, 2.0, 1.0])
    config = make_config(epochs=5, patience=2)

    train(config)

    kept = load_state(Path(config.output) / "last.pt")
    assert (kept["epoch"], kept["best_epoch"]) == (4, 2)


@pytest.mark.usefixtures("unevaluated")
def test_a_training_out_of_patience_is_not_taken_further_when_it_is_resumed(make_config, monkeypatch, kill_at):
    with_validation(monkeypatch, [1.0, 2.0, 0.5])
    config = make_config(epochs=5, patience=1)
    kill_at(RunDirectory, "save", 2)
    with pytest.raises(Killed):
        train(config)

    train(replace(config, resume=True))

    kept = load_state(Path(config.output) / "last.pt")
    assert (kept["epoch"], kept["best_epoch"]) == (2, 1)


@pytest.mark.usefixtures("unevaluated")
def test_bf16_stays_finite(make_config):
    config = make_config(method="isnet", precision=Precision.BF16, epochs=1)

    train(config)

    history = pd.read_csv(Path(config.output) / "history.csv")
    assert np.isfinite(history[["loss", "heatmap", "background", "foreground"]].to_numpy()).all()
    assert all(torch.isfinite(value).all() for value in weights(config.output).values())


def test_images_without_a_mask_are_trained_on_unless_left_out(make_config, phantom_table, tmp_path):
    phantom_table.loc[:3, "mask"] = ""
    phantom_table.to_csv(tmp_path / "manifest.csv", index=False)
    data = {"training": [str(tmp_path / "manifest.csv")]}

    everything = read_partitions(make_config(data=data).data, seed=0)
    masked = read_partitions(make_config(data={**data, "masked_only": True}).data, seed=0)

    assert len(everything.training) + len(everything.validation) == 12
    assert len(masked.training) + len(masked.validation) == 8


def test_no_patient_is_in_training_and_validation(make_config):
    tables = read_partitions(make_config().data, seed=0)

    assert not set(tables.training["patient_id"]) & set(tables.validation["patient_id"])


def test_a_class_without_an_image_is_reported_with_column_split_and_remedy(make_config):
    config = make_config(data={"classes": ["normal", "tuberculosis", "pneumonia"]})

    with pytest.raises(InputError, match=r"column 'label'.*class 'pneumonia' in split 'train'.*data.classes"):
        train(config)

    assert not Path(config.output).exists()


def test_a_hospital_that_is_trained_on_cannot_be_external(make_config, tmp_path):
    same_site = write_hospital(tmp_path / "again", PhantomHospital("Alder"), patients=4, seed=2, size=64)

    with pytest.raises(InputError, match=r"column 'site': \['Alder'\] is both in data.training and data.external"):
        read_partitions(make_config(data={"external": [str(same_site)]}).data, seed=0)


def test_a_damaged_image_is_reported_before_anything_is_written(make_config, phantom_table, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    phantom_table.loc[0, "image"] = str(tmp_path / "broken.png")
    phantom_table.to_csv(tmp_path / "manifest.csv", index=False)
    config = make_config(data={"training": [str(tmp_path / "manifest.csv")]})

    with pytest.raises(InputError, match=r"broken\.png"):
        train(config)

    assert not Path(config.output).exists()


@pytest.fixture(scope="module")
def decoded():
    """Path of an image or a mask to how often `tracked` decoded it."""
    return Counter()


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, phantom_manifest, decoded):
    """A registered ISNet with an external hospital, and its MLflow store."""
    folder = tmp_path_factory.mktemp("tracked")
    hospital = PhantomHospital("Birch", gamma=1.2)
    external = write_hospital(folder / "birch", hospital, patients=4, seed=3, size=64)
    config = TrainConfig(
        DataConfig(
            training=[str(phantom_manifest)],
            classes=["normal", "tuberculosis"],
            external=[str(external)],
            image=ImageConfig(size=32),
            validation_fraction=0.34,
        ),
        str(folder / "run"),
        method="isnet",
        options=options_by_method({"isnet": {"bound_estimation_epochs": 1}}),
        network=NetworkConfig("densenet_tiny"),
        epochs=2,
        batch_size=4,
        resamples=20,
        device=Device.CPU,
        tracking=TrackingConfig(uri=f"sqlite:///{folder / 'mlflow.db'}", experiment="tests"),
        register="lungs",
    )

    def counted(decode):
        def decoding(path, *of):
            decoded[str(path)] += 1
            return decode(path, *of)

        return decoding

    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_image", "read_mask"):
            patch.setattr(pairs, name, counted(getattr(pairs, name)))
        metrics = train(config)
    run_id = json.loads((folder / "run" / "run.json").read_text())["run_id"]
    client = MlflowClient(config.tracking.uri)
    return config, metrics, client, client.get_run(run_id)


@pytest.mark.usefixtures("tracked")
def test_a_training_decodes_every_image_and_mask_once(decoded):
    """Check, cache, bounds, validation, features, controls, evaluation, heatmaps and self-check together."""
    assert len(decoded) == 2 * (12 + 4)
    assert set(decoded.values()) == {1}


def test_the_run_has_the_config_as_parameters(tracked):
    config, _, _, run = tracked

    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "isnet"
    assert run.data.params["data.image.size"] == "32"
    assert run.data.params["optimizer.learning_rate"] == str(config.optimizer.learning_rate)


def test_the_run_has_the_loss_terms_of_every_epoch_and_the_estimated_bounds(tracked):
    _, _, client, run = tracked

    for split in ("training", "validation"):
        for term in ("loss", "classification", "heatmap"):
            steps = [m.step for m in client.get_metric_history(run.info.run_id, f"epoch/{split}/{term}")]
            assert steps == [1, 2]
    assert 0 < run.data.metrics["training/bounds/image.c1"] < run.data.metrics["training/bounds/image.c2"]


def test_the_run_has_its_data_sets_with_digests(tracked):
    _, _, _, run = tracked

    inputs = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}

    assert set(inputs) == {"training: Alder", "validation: Alder", "external: Birch"}
    assert len(set(inputs.values())) == 3


def test_the_run_has_the_numbers_of_the_external_hospital(tracked):
    _, metrics, _, run = tracked

    assert "Birch" in json.dumps(metrics["external"])
    assert any(key.startswith("external") and "Birch" in key for key in run.data.metrics)


def test_the_run_has_figures_and_tables(tracked):
    _, _, client, run = tracked

    def walk(folder=None):
        for entry in client.list_artifacts(run.info.run_id, folder):
            yield from walk(entry.path) if entry.is_dir else [entry.path]

    files = list(walk())

    assert {"loss_curves.png", "config.yaml", "history.csv", "metrics.json"} <= set(files)
    assert any(file.startswith("external/") and file.endswith(".png") for file in files)


def test_the_registered_model_predicts_from_files_what_the_trained_classifier_predicts(tracked, phantom_manifest):
    config, _, _, _ = tracked
    paths = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[:5]

    model = load_model("models:/lungs/1", config.tracking.uri)

    expected = Classifier.load(Path(config.output) / "best.pt").predict(paths)
    pd.testing.assert_frame_equal(model.predict(paths)[expected.columns], expected, check_exact=True)


def test_a_registered_model_loads_with_nothing_but_mlflow(tracked, phantom_manifest):
    config, _, _, _ = tracked
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(config.tracking.uri)
    try:
        model = mlflow.pyfunc.load_model("models:/lungs/1")
    finally:
        mlflow.set_tracking_uri(before)

    image = str(next((phantom_manifest.parent / "images").iterdir()))
    assert list(model.predict([image]).columns)[:3] == ["path", "probability_normal", "probability_tuberculosis"]
