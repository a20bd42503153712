"""Trainings on a GPU: evaluated, gone on with after a kill, and used elsewhere."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from cxr_isnet.commands.evaluate import EvaluateConfig, evaluate
from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.engine.checkpoint import load_state
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.settings import Precision
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train
from tests.checkpoints import Killed

pytestmark = pytest.mark.gpu


@pytest.fixture
def config(make_config, external_manifest, monkeypatch) -> TrainConfig:
    """An ISNet of phantoms with a mark, on the GPU, in bf16; float32 is float32 there, not TF32, as on a CPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return make_config(
        data={"external": [str(external_manifest)], "image": ImageConfig(64), "mark": MarkConfig(size=0.2)},
        method="isnet",
        network=NetworkConfig("densenet_tiny"),
        options=options_by_method({"isnet": {"deep_supervision": True, "bound_estimation_epochs": 1}}),
        precision=Precision.BF16,
        device=Device.CUDA,
    )


def test_a_training_is_judged_and_its_model_predicts_the_same_on_a_cpu(config, external_manifest, tmp_path):
    metrics = train(config)

    assert {"biased", "clean", "swapped"} == set(metrics["external"])
    off = TrackingConfig(enabled=False)
    best = str(Path(config.output) / "best.pt")
    evaluate(EvaluateConfig(str(tmp_path / "cpu"), best, [str(external_manifest)], device=Device.CPU, tracking=off))
    on_cpu, on_gpu = (
        pd.read_csv(folder / "clean" / "predictions.csv")["probability_tuberculosis"]
        for folder in (tmp_path / "cpu", Path(config.output) / "external")
    )
    assert len(on_cpu) == 8
    assert on_gpu.to_numpy() == pytest.approx(on_cpu.to_numpy(), abs=1e-4)
    assert Classifier.load(best).device.type == "cpu"


def test_a_killed_training_goes_on_to_the_weights_of_an_undisturbed_one(config, kill_at, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    config = replace(config, precision=Precision.FP32)
    whole = replace(config, output=f"{config.output}_whole")
    train(whole)
    kill_at(RunDirectory, "save", 1)
    with pytest.raises(Killed):
        train(config)
    after_one_epoch = final_weights(config)
    train(replace(config, resume=True))

    expected = final_weights(whole)
    still_to_go = distance(after_one_epoch, expected)
    assert distance(final_weights(config), expected) < 0.01 * still_to_go  # not equal: a GPU sums in any order


def final_weights(config: TrainConfig) -> torch.Tensor:
    state = load_state(Path(config.output) / "last.pt")["trainer"]["objective"]
    return torch.cat([value.flatten().double().cpu() for name, value in state.items() if name.endswith("weight")])


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
