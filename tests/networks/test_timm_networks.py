"""Networks of timm: how they are made and what is known of them; with a stand-in, and with timm itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, build_network, find_backbone, grad_cam
from cxr_isnet.networks.timm_networks import timm_outline, token_maps
from cxr_isnet.objectives.methods import find_method
from tests import third_party

CNN = [("stem", 2), ("stages.0", 4), ("stages.1", 8), ("stages.2", 8)]
TRANSFORMER = [(f"blocks.{i}", 16) for i in range(12)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a stand-in for timm was asked to make: `cnn`, `transformer` or `last` (with its channels last)."""
    made: list[dict[str, Any]] = []

    def create_model(name: str, **settings: Any) -> nn.Module:
        made.append({"name": name, **settings, "device": str(torch.empty(0).device)})
        if name not in ("cnn", "transformer", "last"):
            raise RuntimeError(f"Unknown model ({name})")
        model = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, settings["num_classes"]))
        nn.init.normal_(model[1].weight)
        model.get_classifier = lambda: model[1]
        model.feature_info = [
            {"module": module, "reduction": size} for module, size in (TRANSFORMER if name == "transformer" else CNN)
        ]
        model.pretrained_cfg = {"fixed_input_size": name == "transformer"}
        if name == "transformer":
            model.patch_embed = SimpleNamespace(patch_size=(16, 16))
            model.num_prefix_tokens = 1
        if name == "last":
            model.output_fmt = "NHWC"
        return model

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    timm_outline.cache_clear()
    yield made
    timm_outline.cache_clear()


def test_a_network_of_timm_takes_grey_images_and_has_an_output_for_each_class(calls):
    network = build_network(NetworkConfig("timm:cnn"), 5, 32)

    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 5)
    outline, built = calls
    assert outline["device"] == "meta"
    assert built == {"name": "cnn", "in_chans": 1, "num_classes": 5, "device": "cpu"}


def test_logits_start_near_nought_as_the_last_layer_is_torchs(calls):
    torch.manual_seed(0)
    network = build_network(NetworkConfig("timm:cnn"), 2, 32)

    assert network(torch.rand(4, 1, 32, 32)).abs().max() < 2  # by the stand-in's own weights some 20


def test_dropout_and_the_size_of_images_are_handed_on_where_they_are_needed(calls):
    build_network(NetworkConfig("timm:cnn", dropout=0.2), 2, 32)
    assert calls[-1]["drop_rate"] == 0.2
    assert "img_size" not in calls[-1]

    build_network(NetworkConfig("timm:transformer"), 2, 48)
    assert calls[-1]["img_size"] == 48
    with pytest.raises(InputError, match=r"image.size is 40; network 'timm:transformer' .* a multiple of 16"):
        build_network(NetworkConfig("timm:transformer"), 2, 40)


def test_supervised_are_the_last_layer_of_each_size_or_three_depths_of_a_transformer(calls):
    assert find_backbone("timm:cnn").supervised_layers == ("stages.0", "stages.2")
    assert find_backbone("timm:transformer").supervised_layers == ("blocks.2", "blocks.5", "blocks.8")


def test_what_layers_give_becomes_feature_maps(calls):
    maps = torch.rand(2, 3, 4, 4)
    tokens = torch.cat((torch.rand(2, 1, 3), maps.flatten(2).transpose(1, 2)), 1)

    assert torch.equal(find_backbone("timm:cnn").feature_maps(maps), maps)
    assert torch.equal(find_backbone("timm:last").feature_maps(maps.permute(0, 2, 3, 1)), maps)
    assert torch.equal(find_backbone("timm:transformer").feature_maps(tokens), maps)
    assert torch.equal(token_maps(1, tokens[:, 1:]), maps)  # of a layer before the class token is there


def test_a_network_that_timm_does_not_have_is_reported(calls):
    with pytest.raises(InputError, match=r"'timm:cnnn': timm cannot make it: Unknown model \(cnnn\)"):
        find_backbone("timm:cnnn")


@pytest.mark.parametrize(
    ("timm", "message"),
    [(None, r"is not installed: pip install 'cxr-isnet\[timm\]'"), ("broken", "cannot be imported")],
)
def test_without_timm_it_is_reported_what_to_do(timm, message, monkeypatch, tmp_path):
    timm_outline.cache_clear()
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    if timm is None:
        monkeypatch.setitem(sys.modules, "timm", None)
    else:
        (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InputError, match=f"'timm:resnet50' needs timm, which {message}"):
        find_backbone("timm:resnet50")


FAMILIES = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "resnet50",
    "swin_tiny_patch4_window7_224",
    "vgg16",
    "vit_base_patch16_224",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_isnet_trains_with_deep_supervision(name: str) -> None:
    """Every family of the study's claim "virtually any classification architecture"."""
    third_party.timm()
    timm_outline.cache_clear()
    torch.manual_seed(0)
    method = find_method("isnet_selective")
    objective = method.objective(NetworkConfig(f"timm:{name}"), 2, 64, method.options()).train()
    batch = {
        "image": torch.rand(2, 1, 64, 64),
        "mask": (torch.rand(2, 1, 64, 64) > 0.5).float(),
        "has_mask": torch.ones(2, dtype=torch.bool),
        "label": torch.tensor([0, 1]),
    }
    objective.measure(batch)
    bounds = objective.finish_estimation()

    objective(batch)["loss"].backward()

    layers = find_backbone(f"timm:{name}").supervised_layers
    assert len(layers) >= 3
    assert all(0 < bounds[f"{layer}.c1"] < bounds[f"{layer}.c2"] for layer in layers)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in objective.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_base_patch16_224"])
def test_grad_cam_of_tokens(name: str) -> None:
    third_party.timm()
    timm_outline.cache_clear()
    backbone = find_backbone(f"timm:{name}")
    network = build_network(NetworkConfig(f"timm:{name}"), 2, 64).eval()

    maps: Tensor = grad_cam(network, backbone.supervised_layers[-1], torch.rand(2, 1, 64, 64), backbone.feature_maps)[1]

    assert maps.shape == (2, 2, 64, 64)
    assert maps.any()
