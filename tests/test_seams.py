"""Methods and networks that lie outside the package, used from a config by their import paths."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cxr_isnet.cli import main
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.objectives import Explanation

EXAMPLES = Path(__file__).with_name("examples")
PROBABILITIES = ["probability_normal", "probability_tuberculosis"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with copies of the example files, as a user's own `my_*.py`."""
    for path in EXAMPLES.glob("[a-z]*.py"):
        (tmp_path / f"my_{path.name}").write_text(path.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(elsewhere: Path, phantom_manifest: Path, external_manifest: Path) -> Path:
    """A config file of a training of a second; method and network are given on the command line."""
    settings = {
        "output": "run",
        "data": {
            "training": [str(phantom_manifest)],
            "external": [str(external_manifest)],
            "classes": ["normal", "tuberculosis"],
            "image": {"size": 32},
            "validation_fraction": 0.34,
        },
        "network": {"name": "densenet_tiny"},
        "epochs": 2,
        "batch_size": 4,
        "resamples": 20,
        "device": "cpu",
        "tracking": {"uri": f"sqlite:///{elsewhere}/mlflow.db"},
    }
    (elsewhere / "config.yaml").write_text(yaml.safe_dump(settings))
    return elsewhere / "config.yaml"


def train(config: Path, *more: str) -> dict[str, object]:
    main(["train", "--config", str(config), *more])
    metrics: dict[str, object] = json.loads((config.parent / "run" / "metrics.json").read_text())
    return metrics


def audit_table(config: Path, *manifests: Path) -> dict[str, dict[str, str]]:
    main(["audit", "run/best.pt", *map(str, manifests), "-o", "audit", "--resamples", "20", "--tracking.enabled=false"])
    return {
        probe["name"]: probe for probe in json.loads((config.parent / "audit" / "audit.json").read_text())["probes"]
    }


@pytest.mark.usefixtures("few_changes")
def test_a_network_without_relevance_rules_trains_is_evaluated_and_audited_with_the_reason_for_what_is_missing(
    config: Path, phantom_manifest: Path, external_manifest: Path
) -> None:
    metrics = train(config, "--method", "cross_entropy", "--network.name", "my_gelu_cnn.BACKBONE")

    assert metrics["network"] == "my_gelu_cnn.BACKBONE"
    table = pd.read_csv(config.parent / "run" / "external" / "clean" / "predictions.csv")
    assert table["relevance_in_lung"].isna().all()
    assert set(table["relevance_reason"]) == {"network 'my_gelu_cnn.BACKBONE' has no relevance rules"}
    assert table[PROBABILITIES].notna().all(axis=None)
    probes = audit_table(config, phantom_manifest, external_manifest)
    assert probes["relevance_share"]["verdict"] == "not applicable"
    assert "heatmaps" in probes["relevance_share"]["reason"]
    assert probes["hidden_lungs"]["verdict"] != "not applicable"


def test_its_input_gradient_is_drawn_when_it_is_asked_for_and_its_relevance_refused(
    config: Path, phantom_manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config, "--method", "cross_entropy", "--network.name", "my_gelu_cnn.BACKBONE")
    image = str(next((phantom_manifest.parent / "images").iterdir()))

    with pytest.raises(SystemExit) as refused:
        main(["explain", "--model", "run/best.pt", "--images", image, "-o", "maps"])
    message = capsys.readouterr().err
    main(["explain", "--model", "run/best.pt", "--images", image, "-o", "maps", "--explainer", "input_gradient"])

    assert refused.value.code == 2
    assert "no relevance rules" in message
    assert "--explainer input_gradient" in message
    assert {file.name for file in (config.parent / "maps").iterdir()} == {
        "index.html",
        "images.csv",
        "0001.png",
        "0001.npz",
    }


def test_the_registered_model_of_such_a_network_predicts(config: Path, phantom_manifest: Path) -> None:
    train(config, "--method", "cross_entropy", "--network.name", "my_gelu_cnn.BACKBONE", "--register", "gelu")
    images = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[:3]

    mlflow.set_tracking_uri(f"sqlite:///{config.parent}/mlflow.db")
    answer = mlflow.pyfunc.load_model("models:/gelu/1").predict(images)

    expected = Classifier.load(config.parent / "run" / "best.pt").predict(images)
    np.testing.assert_allclose(answer[PROBABILITIES], expected[PROBABILITIES], atol=1e-6)


def test_a_network_that_attends_is_explained_by_its_attention(config: Path, phantom_manifest: Path) -> None:
    train(config, "--method", "cross_entropy", "--network.name", "my_gelu_cnn.ATTENDING")
    classifier = Classifier.load(config.parent / "run" / "best.pt")
    image = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[0]

    maps = classifier.explain([image], Explanation.ATTENTION)

    logits, expected = classifier.network.attention(classifier.load_image(image)[None])
    torch.testing.assert_close(maps, expected.detach())
    assert float(maps.sum((2, 3)).min()) > 0
    assert logits.shape == (1, 2)


def test_a_method_that_penalises_input_gradients_is_validated_and_explained_by_them(
    config: Path, phantom_manifest: Path
) -> None:
    train(config, "--method", "my_input_gradient.METHOD", "--options.custom.strength", "10")

    history = pd.read_csv(config.parent / "run" / "history.csv")
    assert history.loc[history["split"] == "validation", "penalty"].gt(0).all()
    settings = yaml.safe_load((config.parent / "run" / "config.yaml").read_text())
    assert (settings["method"], settings["options"]) == ("my_input_gradient.METHOD", {"custom": {"strength": 10.0}})
    table = pd.read_csv(config.parent / "run" / "external" / "clean" / "predictions.csv")
    assert table["relevance_in_lung"].between(0, 1).all()
    classifier = Classifier.load(config.parent / "run" / "best.pt")
    image = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[0]
    pixels = classifier.load_image(image)[None].requires_grad_()
    (expected,) = torch.autograd.grad(classifier.network(pixels)[0, 1], pixels)
    torch.testing.assert_close(classifier.explain([image])[0, 1], expected[0, 0])


def test_a_method_whose_network_predicts_through_a_second_one_is_stored_whole(
    config: Path, phantom_manifest: Path
) -> None:
    train(config, "--method", "my_two_stage.METHOD")
    image = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[0]

    classifier = Classifier.load(config.parent / "run" / "best.pt")

    prepared = classifier.load_image(image)[None]
    with torch.no_grad():
        lungs = classifier.network.segmenter(prepared).sigmoid()
        expected = classifier.network.classifier(prepared * lungs).softmax(1)
    torch.testing.assert_close(classifier.probabilities(prepared), expected)
    assert not torch.equal(classifier.network.classifier(prepared).softmax(1), expected)


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        (["--method=isnet", "--network.name=my_gelu_cnn.BACKBONE"], ["needs relevance rules", "cross_entropy"]),
        (["--method=cross_entropy", "--network.name=my_gelu_cnn.BACKBONE", "--data.image.size=34"], ["multiple of 4"]),
        (["--method=my_nothing.METHOD"], ["no module 'my_nothing'"]),
        (["--method=my_two_stage.build"], ["my_two_stage", "not a Method"]),
        (["--method=my_two_stage.METHOT"], ["METHOT", "missing"]),
        (["--method=my_input_gradient.METHOD", "--options.custom.strenght=1"], ["strenght", "strength"]),
        (["--method=isnet", "--data.classes=[normal, tuberculosis]", "--network.name=densenet"], ["densenet121"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_what_a_network_does_not_give_is_said_before_the_first_epoch(
    settings: list[str], reasons: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        train(config, *settings)

    message = capsys.readouterr().err
    assert refused.value.code == 2
    assert all(reason in message for reason in reasons), message
    assert not (config.parent / "run").exists()


def test_a_method_that_needs_masks_is_not_trained_without_any(
    config: Path, phantom_table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    phantom_table.assign(mask="").to_csv(config.parent / "unmasked.csv", index=False)

    with pytest.raises(SystemExit):
        train(config, "--method=isnet", "--data.training", str(config.parent / "unmasked.csv"))

    message = capsys.readouterr().err
    assert "8 images have none (masked are: Alder, normal: 0 of 4" in message
    assert "segment predict" in message
    assert not (config.parent / "run").exists()


def test_a_checkpoint_that_names_foreign_code_is_loaded_by_another_process_only_when_trusted(
    config: Path, phantom_manifest: Path
) -> None:
    train(config, "--method", "cross_entropy", "--network.name", "my_gelu_cnn.BACKBONE")
    images = str(phantom_manifest.parent / "images")
    command = [sys.executable, "-m", "cxr_isnet", "predict", "run/best.pt", images, "-o", "table.csv"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parents[1])}

    def run(*more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command, *more], cwd=config.parent, env=environment, capture_output=True)

    untrusted, trusted = run(), run("--trust", "true")

    assert untrusted.returncode == 2
    assert b"my_gelu_cnn.BACKBONE" in untrusted.stderr
    assert b"--trust true" in untrusted.stderr
    assert trusted.returncode == 0, trusted.stderr.decode()
    assert len(pd.read_csv(config.parent / "table.csv")) == 12


def test_a_killed_training_of_a_method_outside_the_package_goes_on_to_the_same_weights(
    config: Path, kill_at, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxr_isnet.engine import run_directory
    from tests.checkpoints import Killed, weights

    main(["train", "--config", str(config), "--method", "my_two_stage.METHOD", "--output", "whole"])
    with monkeypatch.context():
        kill_at(run_directory.RunDirectory, "save", 1)
        with pytest.raises(Killed):
            train(config, "--method", "my_two_stage.METHOD")
    train(config, "--method", "my_two_stage.METHOD", "--resume", "true")

    first, second = weights("whole"), weights("run")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_explainer_that_a_network_lacks_is_an_error(trained: Path) -> None:
    classifier = Classifier.load(trained / "best.pt")

    with pytest.raises(InputError, match="no attention maps"):
        classifier.explainer(Explanation.ATTENTION)
    assert classifier.explainer(Explanation.NONE).explain is None
