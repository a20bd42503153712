"""A frozen encoder and a linear layer."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, build_network, penultimate, timm_model
from cxr_isnet.objectives.linear_probe import LinearProbe
from tests.objective_maker import make_objective

TINY = NetworkConfig("densenet_tiny", dropout=0.5)


@pytest.mark.parametrize("name", ["densenet_tiny", "resnet18"])
def test_it_predicts_as_the_whole_network_would(name, batch):
    torch.manual_seed(4)
    whole = build_network(NetworkConfig(name), 3, 32).eval()
    torch.manual_seed(4)
    probe = make_objective("linear_probe", NetworkConfig(name), 3).network

    assert isinstance(probe, LinearProbe)
    torch.testing.assert_close(probe.eval()(batch["image"]), whole(batch["image"]))
    torch.testing.assert_close(penultimate(probe, batch["image"]), penultimate(whole, batch["image"]))


def test_only_the_last_layer_is_trained_on_features_that_do_not_move(batch):
    objective = make_objective("linear_probe", TINY, 3).train()
    before = {key: value.clone() for key, value in objective.network.encoder.state_dict().items()}
    features = objective.network.encoder(batch["image"])
    optimizer = torch.optim.AdamW(objective.parameters(), 0.1, weight_decay=0.5)

    for _ in range(3):
        optimizer.zero_grad()
        objective(batch)["loss"].backward()
        optimizer.step()

    assert all(torch.equal(before[key], value) for key, value in objective.network.encoder.state_dict().items())
    assert torch.equal(features, objective.network.encoder(batch["image"]))  # no dropout, no batch statistics
    assert {name for name, p in objective.network.named_parameters() if p.grad is not None} == {
        "head.weight",
        "head.bias",
    }


def test_the_gradient_is_that_of_logistic_regression(batch):
    objective = make_objective("linear_probe", TINY, 3).train()

    objective(batch)["loss"].backward()

    features = objective.network.encoder(batch["image"]).double().numpy()
    head = objective.network.head
    logits = features @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()
    error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[batch["label"]]
    np.testing.assert_allclose(head.weight.grad, error.T @ features / 4, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(head.bias.grad, error.mean(0), rtol=1e-4)


class FakeModel(nn.Module):
    """As timm makes one: three channels in, features out."""

    pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.4)}  # noqa: RUF012
    num_features = 3

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) + self.bias


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A stand-in for timm with one model; the calls to it."""
    calls = []

    def create_model(name: str, **options: object) -> nn.Module:
        calls.append({"name": name, **options})
        if name != "eva":
            raise RuntimeError(f"Unknown model ({name})")
        return FakeModel(0.25 if options["pretrained"] else 0.0)

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    return calls


def test_a_model_of_timm_takes_grey_images_normalised_as_its_colours_were(timm, batch):
    probe = make_objective("linear_probe", TINY, 4, encoder="timm:eva").network

    features = probe.encoder(batch["image"]).numpy()

    mean = batch["image"].mean((1, 2, 3)).numpy()
    expected = np.stack([(mean - m) / s for m, s in zip((0.4, 0.5, 0.6), (0.1, 0.2, 0.4), strict=True)], 1)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    assert probe(batch["image"]).shape == (4, 4)
    assert timm == [{"name": "eva", "pretrained": False, "num_classes": 0}]


def test_a_model_that_timm_does_not_have_is_reported(timm):
    with pytest.raises(InputError, match=r"'timm:evva'.*Unknown model \(evva\).*Correct the name"):
        timm_model("evva", pretrained=False)


def test_without_timm_it_is_reported_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(
        InputError, match=r"'timm:eva' needs timm, which is not installed: pip install 'cxr-isnet\[timm\]'"
    ):
        make_objective("linear_probe", TINY, 3, encoder="timm:eva")
