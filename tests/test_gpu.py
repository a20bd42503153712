"""On a GPU: relevance, losses and gradients as on a CPU, and trainings that end, go on, and are used elsewhere."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.deployment import Classifier
from cxr_isnet.deployment.checkpoint import load_state
from cxr_isnet.devices import Device
from cxr_isnet.evaluation.commands import EvaluateConfig, evaluate
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.objectives.registry import METHODS
from cxr_isnet.relevance import LRP, AlphaBetaRules, EpsilonRules, every_logit
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train
from cxr_isnet.training.config import DataConfig, Precision
from cxr_isnet.training.run_folder import RunFolder

pytestmark = pytest.mark.gpu

CLASSES = 3
ISNETS = ("isnet", "isnet_dual", "isnet_selective", "isnet_stochastic")
OFF = TrackingConfig(enabled=False)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions in float32, not TF32: a comparison with the CPU is meant to show errors, not rounding."""
    torch.manual_seed(0)
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def batch(device: str, size: int = 64) -> dict[str, torch.Tensor]:
    """Four images; the lungs are two rectangles, and the last image has no mask."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(4, 1, size, size)
    third = size // 3
    mask[:3, :, third:-third, 4:third] = mask[:3, :, third:-third, -third:-4] = 1
    whole = {
        "image": torch.rand(4, 1, size, size, generator=generator),
        "mask": mask,
        "has_mask": torch.tensor([True, True, True, False]),
        "label": torch.tensor([0, 1, 2, 1]),
    }
    return {key: value.to(device) for key, value in whole.items()}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found.cpu() - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("network", ["densenet121", "resnet18", "densenet_small"])
@pytest.mark.parametrize("rules", [EpsilonRules(), AlphaBetaRules()], ids=["epsilon", "alpha-beta"])
def test_relevance_is_that_of_the_cpu(rules, network):
    model = build_network(NetworkConfig(network), CLASSES).double().eval()
    images = batch("cpu")["image"].double()
    _, expected = LRP(model, rules)(images, every_logit)

    _, found = LRP(model.to("cuda"), rules)(images.to("cuda"), every_logit)

    assert found.image.device.type == "cuda"
    assert distance(found.image, expected.image) < 1e-8


@pytest.mark.parametrize("method", ["isnet", "isnet_dual", "isnet_selective"])
def test_a_training_step_has_the_losses_and_gradients_of_the_cpu(method):
    terms, gradients = {}, {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        objective = METHODS.get(method).objective(NetworkConfig("densenet_tiny"), CLASSES, {"deep_supervision": True})
        objective = objective.double().eval().to(device)  # float64: a gate or a cut near its edge falls alike on both
        images = batch(device)
        images["image"] = images["image"].double()
        objective.measure(images)
        objective.finish_tuning()
        terms[device] = objective.train()(images)
        terms[device]["loss"].backward()
        gradients[device] = torch.cat([p.grad.flatten().cpu() for p in objective.parameters()])

    for name in ("classification", "background", "foreground", "loss"):
        assert float(terms["cuda"][name]) == pytest.approx(float(terms["cpu"][name]), rel=1e-5), name
    assert distance(gradients["cuda"], gradients["cpu"]) < 1e-4  # the losses are float32 by design


@pytest.mark.parametrize("method", ISNETS)
def test_bf16_keeps_the_losses_within_its_rounding(method):
    losses = {}
    for precise in (True, False):
        torch.manual_seed(1)
        objective = METHODS.get(method).objective(NetworkConfig("densenet_tiny"), CLASSES, {}).to("cuda")
        objective.eval().measure(batch("cuda"))
        objective.finish_tuning()
        torch.manual_seed(2)  # of the drawn class
        with torch.autocast("cuda", torch.bfloat16, enabled=not precise):
            terms = objective.train()(batch("cuda"))
        terms["loss"].backward()
        assert all(torch.isfinite(p.grad).all() for p in objective.parameters())
        losses[precise] = {name: float(terms[name]) for name in ("classification", "heatmap")}

    assert losses[False] == pytest.approx(losses[True], rel=0.1)  # bf16 keeps 8 bits, through some 60 layers


@pytest.fixture
def config(phantom_manifest: Path, external_manifest: Path, tmp_path: Path) -> TrainConfig:
    """An ISNet of phantoms with a mark, on the GPU, in bf16 with a weight average."""
    data = DataConfig(
        training=[str(phantom_manifest)],
        external=[str(external_manifest)],
        classes=["normal", "tuberculosis"],
        image=ImageConfig(64),
        mark=MarkConfig(size=0.2),
        validation_fraction=0.34,
    )
    return TrainConfig(
        data,
        str(tmp_path / "run"),
        method="isnet",
        network=NetworkConfig("densenet_tiny"),
        options={"isnet": {"deep_supervision": True, "tuning_epochs": 1}},
        epochs=2,
        batch_size=4,
        precision=Precision.BF16,
        device=Device.CUDA,
        resamples=20,
        tracking=OFF,
    )


def test_a_training_is_judged_and_its_model_predicts_the_same_on_a_cpu(config, external_manifest, tmp_path):
    metrics = train(config)

    assert {"biased", "clean", "swapped"} == set(metrics["external"])
    best = str(Path(config.output) / "best.pt")
    evaluate(EvaluateConfig(str(tmp_path / "cpu"), best, [str(external_manifest)], device=Device.CPU, tracking=OFF))
    on_cpu, on_gpu = (
        pd.read_csv(folder / "clean" / "predictions.csv")["probability_tuberculosis"]
        for folder in (tmp_path / "cpu", Path(config.output) / "external")
    )
    assert len(on_cpu) == 8
    assert on_gpu.to_numpy() == pytest.approx(on_cpu.to_numpy(), abs=1e-4)
    assert Classifier.load(best).device.type == "cpu"


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def test_a_killed_training_goes_on_to_the_weights_of_an_undisturbed_one(config, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    config = replace(config, precision=Precision.FP32)
    whole = replace(config, output=f"{config.output}_whole")
    train(whole)
    save = RunFolder.save

    def save_and_die(self, *state):
        save(self, *state)
        monkeypatch.setattr(RunFolder, "save", save)
        raise Killed

    monkeypatch.setattr(RunFolder, "save", save_and_die)
    with pytest.raises(Killed):
        train(config)
    after_one_epoch = final_weights(config)
    train(replace(config, resume=True))

    expected = final_weights(whole)
    still_to_go = distance(after_one_epoch, expected)
    assert distance(final_weights(config), expected) < 0.01 * still_to_go  # not equal: a GPU sums in any order


def final_weights(config: TrainConfig) -> torch.Tensor:
    state = load_state(Path(config.output) / "last.pt")["fitting"]["objective"]
    return torch.cat([value.flatten().double().cpu() for name, value in state.items() if name.endswith("weight")])
