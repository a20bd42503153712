"""AG-Sononet: gates by hand and in loops, the network against its parts, and its maps."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cxr_isnet.networks import AGSononet, NetworkConfig, build_network
from cxr_isnet.networks.ag_sononet import GridAttention

IMAGES = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> AGSononet:
    torch.manual_seed(0)
    return AGSononet(3, (4, 6, 8, 10, 12)).eval()


def outputs(network: AGSononet) -> list[torch.Tensor]:
    """Of each stage."""
    found = [network.stages[0](IMAGES)]
    for index in range(1, 5):
        found.append(network.stages[index](F.max_pool2d(found[-1], 2)))
    return found


def test_coefficients_computed_by_hand() -> None:
    """Scores max(0, x + 1): 1, 3, 0 and 2; less their minimum 0, over their sum 6."""
    gate = GridAttention(1, 1, 1)
    for convolution in (gate.theta, gate.phi, gate.psi):
        torch.nn.init.ones_(convolution.weight)

    found = gate(torch.tensor([[[[0.0, 2.0], [-4.0, 1.0]]]]), torch.tensor([[[[1.0]]]]))

    torch.testing.assert_close(found, torch.tensor([[[[1.0, 3.0], [0.0, 2.0]]]]) / 6)


def test_coefficients_are_those_of_the_formula_in_loops() -> None:
    torch.manual_seed(0)
    gate, features, gating = GridAttention(3, 2, 4), torch.randn(2, 3, 4, 5), torch.randn(2, 2, 1, 1)

    found = gate(features, gating).detach()

    layers = (gate.theta, gate.phi, gate.psi)
    theta, phi, psi = (layer.weight.detach().double().numpy()[:, :, 0, 0] for layer in layers)
    x, g = features.double().numpy(), gating.double().numpy()
    for image in (0, 1):
        score = np.zeros((4, 5))
        for row in range(4):
            for column in range(5):
                both = theta @ x[image, :, row, column] + phi @ g[image, :, 0, 0]
                score[row, column] = (psi @ np.maximum(both, 0))[0]
        expected = (score - score.min()) / (score - score.min()).sum()
        np.testing.assert_allclose(found[image, 0], expected, atol=1e-6)


def test_a_flat_score_gives_no_attention_and_no_nan() -> None:
    gate = GridAttention(1, 1, 1)

    found = gate(torch.ones(1, 1, 4, 4).requires_grad_(), torch.ones(1, 1, 1, 1))
    found.sum().backward()

    assert torch.equal(found, torch.zeros(1, 1, 4, 4))
    assert all(torch.isfinite(p.grad).all() for p in gate.parameters())


def test_the_classifier_reads_both_gated_sums_and_the_mean_of_the_last_stage(network: AGSononet) -> None:
    stages = outputs(network)
    third, fourth, fifth = stages[2:]
    read = [
        (network.gates[0](third, fifth) * third).sum((2, 3)),
        (network.gates[1](fourth, fifth) * fourth).sum((2, 3)),
        fifth.mean((2, 3)),
    ]

    expected = torch.cat(read, 1) @ network.classifier.weight.T + network.classifier.bias

    assert [tuple(s.shape[1:]) for s in stages[2:]] == [(8, 8, 12), (10, 4, 6), (12, 2, 3)]
    torch.testing.assert_close(network(IMAGES), expected)


def test_the_maps_are_the_mean_of_both_gates_the_same_for_every_class(network: AGSononet) -> None:
    logits, maps = network.attention(IMAGES)

    stages = outputs(network)
    found = [gate(stages[index], stages[4]) for gate, index in zip(network.gates, (2, 3), strict=True)]
    coefficients = [F.interpolate(c * c[0].numel(), size=(32, 48), mode="bilinear") for c in found]
    torch.testing.assert_close(maps, ((coefficients[0] + coefficients[1]) / 2).expand(-1, 3, -1, -1))
    torch.testing.assert_close(logits, network(IMAGES))
    assert float(maps.detach().mean()) == pytest.approx(1, abs=0.1)


def test_every_weight_gets_a_gradient(network: AGSononet) -> None:
    network.train()(IMAGES).square().sum().backward()

    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_usual_one_has_a_quarter_of_the_filters_of_vgg() -> None:
    network = build_network(NetworkConfig("ag_sononet"), 2, 32)

    widths = [stage[0].out_channels for stage in network.stages]
    assert widths == [16, 32, 64, 128, 128]
    assert [sum(isinstance(m, torch.nn.Conv2d) for m in stage) for stage in network.stages] == [3, 3, 3, 2, 2]
    assert network.gates[0].theta.out_channels == 128
