"""The methods that ISNet is compared with, each from its config to a registered model: by the code that ISNet uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from cxr_isnet.cli import main
from cxr_isnet.engine import run_directory
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train
from tests.checkpoints import Killed, weights

NETWORKS = {
    "vit_b16": "vit_tiny",
    "gain": "densenet_tiny",
    "multitask_unet": "multitask_unet_tiny",
    "ag_sononet": "ag_sononet_tiny",
    "ham": "ham_tiny",
}
LOSSES = {
    "vit_b16": set(),
    "gain": {"classification", "mining", "supervision", "masked"},
    "multitask_unet": {"classification", "segmentation", "masked"},
    "ag_sononet": set(),
    "ham": {"diseases", "anomaly", "bound", "union", "mask", "masked"},
}


@pytest.fixture(params=NETWORKS)
def config(request: pytest.FixtureRequest, make_config: Callable[..., TrainConfig]) -> Iterator[TrainConfig]:
    name: str = request.param
    return make_config(method=name, network=NetworkConfig(NETWORKS[name]))


def test_it_is_trained_evaluated_and_explained(config: TrainConfig, phantom_manifest: Path) -> None:
    train(replace(config, epochs=1))

    folder = Path(config.output)
    history = pd.read_csv(folder / "history.csv")
    assert LOSSES[config.method] <= set(history.columns)
    assert np.isfinite(history["loss"]).all()
    table = pd.read_csv(folder / "validation" / "clean" / "predictions.csv")
    assert table["relevance_in_lung"].between(0, 1).all()
    image = str(next((phantom_manifest.parent / "images").iterdir()))
    assert Classifier.load(folder / "best.pt").explain([image]).shape == (1, 2, 32, 32)


@pytest.mark.slow
@pytest.mark.usefixtures("few_changes")
def test_it_is_logged_registered_and_audited(
    config: TrainConfig, tmp_path: Path, phantom_manifest: Path, external_manifest: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    train(replace(config, epochs=1, tracking=TrackingConfig(uri=uri), register="compared"))
    best = Path(config.output) / "best.pt"

    mlflow.set_tracking_uri(uri)
    images = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[:3]
    registered = mlflow.pyfunc.load_model("models:/compared/1").predict(images)
    manifests = [str(phantom_manifest), str(external_manifest)]
    main(["audit", str(best), *manifests, "-o", f"{tmp_path}/audit", "--resamples=20", "--tracking.enabled=false"])

    columns = ["probability_normal", "probability_tuberculosis"]
    np.testing.assert_allclose(registered[columns], Classifier.load(best).predict(images)[columns], atol=1e-6)
    probes = json.loads((tmp_path / "audit" / "audit.json").read_text())["probes"]
    verdicts = {probe["name"]: probe["verdict"] for probe in probes}
    assert {verdicts["hidden_lungs"], verdicts["weight_randomisation"]}.isdisjoint({"not applicable"})


def test_killed_and_resumed_it_ends_with_the_same_weights(
    config: TrainConfig, kill_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch, unevaluated: None
) -> None:
    whole = replace(config, output=f"{config.output}_whole")
    train(whole)
    with monkeypatch.context():
        kill_at(run_directory.RunDirectory, "save", 1)
        with pytest.raises(Killed):
            train(config)
    train(replace(config, resume=True))

    first, second = weights(whole.output), weights(config.output)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
