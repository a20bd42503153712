"""The network of hierarchical attention mining: each part against a slower one, and its shapes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import resnet50
from torch import nn

from cxr_isnet.networks import HierarchicalAttention, NetworkConfig, build_network
from cxr_isnet.networks.hierarchical_attention import ForegroundAttention, log_sum_exp_pool


@pytest.fixture
def network() -> HierarchicalAttention:
    torch.manual_seed(0)
    return HierarchicalAttention(3, "basic", (1, 1, 1, 1), (4, 4, 6, 6), 8).eval()


def test_features_keep_an_eighth_of_rows_and_columns(network: HierarchicalAttention) -> None:
    logits, evidence = network.logits_and_evidence(torch.rand(2, 1, 64, 96))

    assert logits.shape == (2, 3)
    assert evidence.shape == (2, 3, 8, 12)


def test_the_usual_one_is_resnet50_with_dilated_last_stages() -> None:
    network = build_network(NetworkConfig("ham"), 2, 64)
    plain = resnet50(spatial_dims=2, n_input_channels=1, conv1_t_stride=2, feed_forward=False, bias_downsample=False)

    network.resnet.load_state_dict(plain.state_dict())

    stages = [network.resnet.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)]
    assert [s[0].conv2.stride for s in stages] == [(1, 1), (2, 2), (1, 1), (1, 1)]
    assert [{block.conv2.dilation for block in s} for s in stages] == [{(1, 1)}, {(1, 1)}, {(2, 2)}, {(4, 4)}]
    assert [{block.conv2.padding for block in s} for s in stages] == [{(1, 1)}, {(1, 1)}, {(2, 2)}, {(4, 4)}]
    assert [s[0].downsample[0].stride for s in stages] == [(1, 1), (2, 2), (1, 1), (1, 1)]
    assert network.head.in_features == 512


def test_a_dilated_stage_is_the_strided_one_without_its_gaps(network: HierarchicalAttention) -> None:
    """At every second place it gives what a strided convolution of every second place gives."""
    convolution = network.resnet.layer3[0].conv2
    features = torch.rand(1, 6, 8, 8)

    dilated = convolution(features)
    strided = F.conv2d(features[..., ::2, ::2], convolution.weight, padding=1)

    torch.testing.assert_close(dilated[..., ::2, ::2], strided)


def test_the_pool_is_the_formula_and_lies_between_mean_and_maximum() -> None:
    features = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))

    pooled = log_sum_exp_pool(features)

    places = features.double().numpy().reshape(2, 3, 20)
    np.testing.assert_allclose(pooled, np.log(np.exp(6 * places).mean(2)) / 6, atol=1e-6)
    assert (pooled > features.mean((2, 3))).all()
    assert (pooled < features.amax((2, 3))).all()
    torch.testing.assert_close(log_sum_exp_pool(torch.full((1, 1, 3, 3), 0.7)), torch.tensor([[0.7]]))


def test_foreground_attention_is_the_formula_in_loops() -> None:
    torch.manual_seed(0)
    attention = ForegroundAttention(3, 8).eval()
    nn.init.constant_(attention.channel_scale, 0.7)
    nn.init.constant_(attention.position_scale, 0.4)
    features = torch.randn(1, 3, 2, 3)

    found = attention(features)[0].detach().double().numpy().reshape(8, 6)

    def softmax(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values - values.max())
        return powers / powers.sum()

    def convolve(layer: nn.Conv2d, x: np.ndarray) -> np.ndarray:
        return layer.weight.detach().double().numpy()[:, :, 0, 0] @ x + layer.bias.detach().double().numpy()[:, None]

    x = attention.reduce(features)[0].detach().double().numpy().reshape(8, 6)
    channels = np.zeros_like(x)
    for i in range(8):
        weights = softmax(np.array([-sum(x[i, n] * x[j, n] for n in range(6)) for j in range(8)]))
        channels[i] = sum(weights[j] * x[j] for j in range(8))
    x = x + 0.7 * channels
    query, key, value = (convolve(layer, x) for layer in (attention.query, attention.key, attention.value))
    positions = np.zeros_like(x)
    for n in range(6):
        weights = softmax(np.array([query[:, n] @ key[:, m] for m in range(6)]))
        positions[:, n] = sum(weights[m] * value[:, m] for m in range(6))
    np.testing.assert_allclose(found, x + 0.4 * positions, atol=1e-5)


def test_attention_has_no_say_before_it_is_trained() -> None:
    torch.manual_seed(0)
    attention, features = ForegroundAttention(3, 8).eval(), torch.randn(1, 3, 2, 3)

    assert torch.equal(attention(features), attention.reduce(features))


def test_evidence_is_the_last_layer_at_every_place_with_constant_weights(network: HierarchicalAttention) -> None:
    images = torch.rand(2, 1, 64, 64)
    seen: list[torch.Tensor] = []
    network.fuse.register_forward_hook(lambda module, inputs, output: seen.append(output))

    logits, evidence = network.logits_and_evidence(images)
    evidence.sum().backward()

    features, weight = seen[0].detach(), network.head.weight.detach()
    torch.testing.assert_close(evidence.detach(), torch.einsum("kc,bchw->bkhw", weight, features))
    torch.testing.assert_close(logits.detach(), log_sum_exp_pool(features) @ weight.T)
    assert network.head.weight.grad is None
    assert network.resnet.conv1.weight.grad.abs().max() > 0


def test_it_is_explained_by_its_activation_maps(network: HierarchicalAttention) -> None:
    images = torch.rand(2, 1, 64, 64)

    logits, maps = network.attention(images)

    evidence = network.logits_and_evidence(images)[1]
    expected = F.interpolate(evidence.clamp_min(0), size=(64, 64), mode="bilinear")
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(logits, network(images))
