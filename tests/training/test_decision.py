"""Threshold and temperature of a finished training: fitted on validation images, in its checkpoint, files, MLflow."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities, read_predictions
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifests
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.tracking import TrackingConfig, load_model
from cxr_isnet.training import train
from cxr_isnet.training.decision import fit_calibration
from cxr_isnet.training.partitions import read_partitions

CLASSES = ("normal", "tuberculosis")


@pytest.fixture(scope="module")
def finished(make_config_in, tmp_path_factory):
    """A training that has ended, with planted marks, tracked and registered."""
    folder = tmp_path_factory.mktemp("finished")
    tracking = TrackingConfig(uri=f"sqlite:///{folder / 'mlflow.db'}")
    config = make_config_in(folder, epochs=1, data={"mark": MarkConfig(0.2)}, tracking=tracking, register="lungs")
    return config, train(config)


def test_it_is_fitted_on_the_clean_validation_images_and_shipped(finished, phantom_manifest):
    config, metrics = finished
    found = metrics["calibration"]
    classifier = Classifier.load(Path(config.output) / "best.pt")
    rows = read_partitions(config.data, config.seed).validation
    own = classifier.predict(list(rows["image"]))
    calibrated = classifier.predict(list(rows["image"]), calibrated=True)
    ill = (rows["label"] == "tuberculosis").astype(int)

    assert json.loads((Path(config.output) / "metrics.json").read_text())["calibration"] == found
    assert classifier.temperature == found["temperature"]
    losses = [log_loss(ill, table["probability_tuberculosis"]) for table in (own, calibrated)]
    assert losses == pytest.approx([found["log_loss"], found["log_loss_with_temperature"]], rel=1e-4)
    assert losses[1] <= losses[0] + 1e-9
    aucs = [roc_auc_score(ill, table["probability_tuberculosis"]) for table in (own, calibrated)]
    assert aucs[0] == aucs[1]

    model = load_model("models:/lungs/1", config.tracking.uri)
    assert model.metadata.metadata["temperature"] == found["temperature"]
    paths = list(read_manifests([str(phantom_manifest)])["image"][:3])
    for asked, table in ((None, classifier.predict(paths)), (True, classifier.predict(paths, calibrated=True))):
        answer = model.predict(paths, params=None if asked is None else {"calibrated": asked})
        np.testing.assert_array_equal(answer[table.columns[1:]], table.iloc[:, 1:])


def test_a_training_that_is_resumed_ships_the_same(finished):
    config, metrics = finished

    again = train(replace(config, resume=True, register=None))

    assert again["calibration"] == metrics["calibration"]


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    return Classifier(build_network(config, 2, 32).eval(), config, CLASSES, ImageConfig(32), "cross_entropy")


def write_table(file, ill, said):
    columns = "path,patient_id,site,label,model_uri,probability_normal,probability_tuberculosis"
    rows = [
        f"{i}.png,{i},here,{CLASSES[label]},m,{1 - p},{p}" for i, (label, p) in enumerate(zip(ill, said, strict=True))
    ]
    file.write_text("\n".join([columns, *rows]) + "\n")


def test_probabilities_that_are_too_extreme_get_a_temperature_above_1(classifier, tmp_path):
    generator = np.random.default_rng(0)
    honest = generator.uniform(0.05, 0.95, 400)
    ill = (generator.random(400) < honest).astype(int)
    odds = (honest / (1 - honest)) ** 3
    write_table(tmp_path / "table.csv", ill, odds / (1 + odds))

    found = fit_calibration(classifier, read_predictions(tmp_path / "table.csv", CLASSES))

    assert found.temperature == pytest.approx(3, rel=0.2)
    assert found.log_loss_with_temperature < found.log_loss
    table = read_predictions(tmp_path / "table.csv", CLASSES)
    assert found.log_loss == pytest.approx(
        -np.log(probabilities(table, CLASSES)[np.arange(400), label_indices(table, CLASSES)]).mean()
    )
    assert (classifier.temperature, classifier.threshold) == (found.temperature, found.threshold)
    assert found.youden > 0.3
    assert found.note == ""


def test_validation_that_is_all_right_ships_1(classifier, tmp_path):
    write_table(tmp_path / "table.csv", [0, 1], [0.3, 0.6])

    found = fit_calibration(classifier, read_predictions(tmp_path / "table.csv", CLASSES))

    assert found.temperature == classifier.temperature == 1.0
    assert found.log_loss == pytest.approx(found.log_loss_with_temperature)
    assert found.note == ""


def test_a_model_that_tells_nothing_is_told_so_and_ships_no_decision(classifier, tmp_path, caplog):
    """Sure, and right by chance: the least log loss is that of one half for all, and no threshold helps."""
    said = [0.99, 0.01] * 50
    write_table(tmp_path / "table.csv", [0, 0, 1, 1] * 25, said)

    found = fit_calibration(classifier, read_predictions(tmp_path / "table.csv", CLASSES))

    assert (classifier.temperature, classifier.threshold) == (1.0, None)
    assert found.youden == 0
    for told in (found.note, caplog.text):
        assert "The model tells nothing on its own validation images" in told
        assert "Youden index 0" in told
        assert "equal probabilities of all classes have a lower loss" in told
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["threshold"] is None


def test_a_model_that_is_wrong_all_the_time_ships_no_decision(classifier, tmp_path):
    write_table(tmp_path / "table.csv", [0, 1] * 20, [0.9, 0.2] * 20)

    assert fit_calibration(classifier, read_predictions(tmp_path / "table.csv", CLASSES)).threshold is None


def test_a_threshold_is_shipped_with_what_it_reaches(classifier, tmp_path):
    write_table(tmp_path / "table.csv", [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.41, 0.3, 0.35, 0.45])

    found = fit_calibration(classifier, read_predictions(tmp_path / "table.csv", CLASSES))

    assert (found.threshold, found.youden) == pytest.approx((0.3, 2 / 3))
    assert classifier.threshold == found.threshold
