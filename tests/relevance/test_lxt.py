"""Values of a ViT against lxt, the AttnLRP authors' own library (optional; its maps' gradients are no oracle)."""

from __future__ import annotations

from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import EPSILON_TABLE, LRP, EpsilonRules, gate
from tests import third_party

from .test_epsilon import gradient_times_input

pytestmark = pytest.mark.oracle


@pytest.fixture
def patches() -> Any:
    """lxt's rules, as functions that take the place of a module's forward."""
    third_party.torchvision()  # transformers, which lxt needs, imports it where it is there
    return pytest.importorskip("lxt.efficient.patches")


def patch(patches: Any, network: nn.Module) -> None:
    """Gives norms and activations of a network lxt's rules."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.forward = MethodType(patches.layer_norm_forward, module)
        elif "GELU" in type(module).__name__:
            module.original_forward = module.forward
            module.forward = MethodType(patches.non_linear_forward, module)


class Logits(nn.Module):
    """A model of transformers, as one that returns logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).logits


def assert_alike(found: Tensor, expected: Tensor) -> None:
    """To a millionth of the largest value: lxt adds 1e-10 to what it divides by, however small that is."""
    assert_close(found.detach(), expected, rtol=0.0, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attnlrp_on_a_vit_of_transformers(patches: Any, monkeypatch: pytest.MonkeyPatch, attention: str) -> None:
    """The eager form takes its softmax in float32."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.vit import modeling_vit

    config = transformers.ViTConfig(
        **{"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 48},
        **{"image_size": 32, "patch_size": 8, "num_channels": 2, "num_labels": 3, "initializer_range": 0.3},
        attn_implementation=attention,
    )
    network = Logits(transformers.ViTForImageClassification(config)).eval()
    images = torch.rand(3, 2, 32, 32)
    logits, relevance = LRP(network, EpsilonRules(0.0), image_range=None)(images)
    patch(patches, network)
    for name in ("eager_attention_forward", "ALL_ATTENTION_FUNCTIONS"):
        monkeypatch.setattr(modeling_vit, name, getattr(modeling_vit, name))  # put back afterwards
    patches.patch_attention(modeling_vit)
    assert_close(network(images), logits)
    assert_alike(relevance.image, gradient_times_input(network, images))


def test_cp_lrp_on_a_vit_of_torchvision(patches: Any) -> None:
    vit = third_party.torchvision().models.VisionTransformer
    network = vit(image_size=32, patch_size=8, num_layers=3, num_heads=3, hidden_dim=24, mlp_dim=48, num_classes=3)
    nn.init.normal_(network.heads.head.weight)
    network.eval()
    images = torch.rand(3, 3, 32, 32)
    rules = EpsilonRules(0.0, table={**EPSILON_TABLE, "softmax": gate})
    logits, relevance = LRP(network, rules, image_range=None)(images)
    patch(patches, network)
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.original_forward = module.forward
            module.forward = MethodType(patches.cp_multi_head_attention_forward, module)
    assert_close(network(images), logits)
    assert_alike(relevance.image, gradient_times_input(network, images))
