"""z+ and alpha-beta against explicit matrices; what must hold of them; the two maps of Dual ISNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import (
    LRP,
    AlphaBetaRules,
    AlphaBetaStart,
    EpsilonRules,
    MissingRuleError,
    RelevanceError,
    sum_of_logits,
)

from .networks import ConvNet, DenseNet, FunctionalNet, ResidualNet, UNetEncoder, VariedConvNet, randomise
from .oracle import Oracle

CONTRIBUTIONS = AlphaBetaStart.CONTRIBUTIONS
ACCOUNTED = [ConvNet, ResidualNet, DenseNet, VariedConvNet]


def oracle_maps(network: Any, images: Tensor, rules: AlphaBetaRules, z_b: Any = None) -> Tensor:
    """(B, classes, C, H, W)."""
    maps = []
    for image in images.numpy():
        oracle = Oracle(image)
        logits = network.account(oracle)
        seeds = np.eye(logits.bias_plus.size)
        maps.append(
            [
                oracle.alpha_beta(
                    logits, seed, rules.alpha, rules.beta, rules.epsilon, z_b, rules.start is CONTRIBUTIONS
                )[0].reshape(image.shape)
                for seed in seeds
            ]
        )
    return torch.tensor(np.array(maps))


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"), [(1.0, 0.0, (-1.0, 0.0)), (2.0, -1.0, (-2.0, 0.5)), (1.5, -0.5, (-1.5, 0.25))]
)
def test_one_neuron_explains_its_logit(alpha: float, beta: float, expected: tuple[float, float]) -> None:
    """z = 1 - 1 - 1 = -1, P = 1, N = -2: R = z (alpha / P, beta (-1) / N) (Bach et al. 2015, equation 60)."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 1))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, -1.0]]))
        network[1].bias.fill_(-1.0)
    _, relevance = LRP(network, AlphaBetaRules(alpha, beta), image_range=None)(torch.ones(1, 1, 1, 2))
    assert relevance.image.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "rules",
    [
        AlphaBetaRules(),
        AlphaBetaRules(2.0, -1.0),
        AlphaBetaRules(1.5, -0.5, 0.2),
        AlphaBetaRules(start=CONTRIBUTIONS),
        AlphaBetaRules(2.0, -1.0, start=CONTRIBUTIONS),
    ],
)
@pytest.mark.parametrize("kind", ACCOUNTED)
def test_equals_alpha_beta_written_as_matrices(kind: type[nn.Module], rules: AlphaBetaRules, images: Tensor) -> None:
    network = randomise(kind())
    logits, relevance = LRP(network, rules, image_range=None)(images)
    assert torch.equal(logits, network(images))
    assert_close(relevance.image.detach(), oracle_maps(network, images, rules), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rules", [AlphaBetaRules(), AlphaBetaRules(2.0, -1.0)])
def test_images_with_negative_values(rules: AlphaBetaRules, images: Tensor) -> None:
    network, x = randomise(ResidualNet()), images - 0.5
    _, relevance = LRP(network, rules, image_range=None)(x)
    assert_close(relevance.image.detach(), oracle_maps(network, x, rules), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rules", [AlphaBetaRules(), AlphaBetaRules(2.0, -1.0)])
@pytest.mark.parametrize("kind", ACCOUNTED)
def test_with_z_b_at_the_first_layer(kind: type[nn.Module], rules: AlphaBetaRules, images: Tensor) -> None:
    network = randomise(kind())
    _, relevance = LRP(network, rules, first_epsilon=0.02)(images)
    expected = oracle_maps(network, images, rules, (0.0, 1.0, 0.02))
    assert_close(relevance.image.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [*ACCOUNTED, FunctionalNet, UNetEncoder])
def test_z_plus_relevance_is_never_negative(kind: type[nn.Module], images: Tensor) -> None:
    for image_range in (None, (0.0, 1.0)):
        _, relevance = LRP(randomise(kind()), AlphaBetaRules(start=CONTRIBUTIONS), image_range=image_range)(images)
        assert (relevance.image >= 0).all()
        assert relevance.image.any()


def test_z_plus_loses_only_to_positive_biases() -> None:
    """sum_j R_j = sum_k R_k (1 - b+_k / z+_k)."""
    network, images = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten()), torch.rand(2, 1, 4, 4)
    conv = network[0]
    _, relevance = LRP(network, AlphaBetaRules(epsilon=0.0), image_range=None)(images, sum_of_logits)
    z_plus = nn.functional.conv2d(images, conv.weight.clamp(min=0), conv.bias.clamp(min=0))
    share = 1 - conv.bias.clamp(min=0)[:, None, None] / z_plus.clamp(min=1e-300)
    assert_close(relevance.image.sum((1, 2, 3, 4)), (network[1](conv(images)) * share).sum((1, 2, 3)))


def test_with_weights_of_one_sign_and_no_biases_z_plus_is_epsilon(images: Tensor) -> None:
    network = randomise(ConvNet())
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            parameter.copy_(torch.zeros_like(parameter) if name.endswith("bias") else parameter.abs())
    network[1].running_mean.zero_()
    for image_range in (None, (0.0, 1.0)):
        lrp = LRP(network, [AlphaBetaRules(), EpsilonRules()], image_range=image_range)
        z_plus, epsilon = lrp(images, sum_of_logits)[1].image.unbind(1)
        assert_close(z_plus, epsilon)


def test_dual_maps_are_those_of_each_rule_in_order(images: Tensor) -> None:
    network = randomise(DenseNet())
    layers = ["pool0", "pool3"]
    _, dual = LRP(network, [AlphaBetaRules(), EpsilonRules()], layers=layers)(images, sum_of_logits)
    assert dual.image.shape == (3, 2, 2, 9, 8)
    for k, rules in enumerate((AlphaBetaRules(), EpsilonRules())):
        _, alone = LRP(network, rules, layers=layers)(images, sum_of_logits)
        assert_close(dual.image[:, k : k + 1], alone.image)
        for name in layers:
            assert_close(dual.layers[name][:, k : k + 1], alone.layers[name])


@pytest.mark.parametrize("rules", [AlphaBetaRules(), AlphaBetaRules(2.0, -1.0)])
def test_gradient_by_the_weights(rules: AlphaBetaRules) -> None:
    network, images = randomise(ConvNet()), torch.rand(2, 2, 6, 6)
    lrp = LRP(network, rules)
    names = [name for name, _ in lrp.named_parameters()]

    def explain(*values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(lrp, parameters, (images,))[1].image

    assert torch.autograd.gradcheck(explain, tuple(lrp.parameters()), fast_mode=True)


def test_a_silent_layer_gives_no_relevance_and_no_nan_at_epsilon_zero(images: Tensor) -> None:
    network = randomise(ConvNet())
    nn.init.constant_(network[1].bias, -1e3)
    _, relevance = LRP(network, AlphaBetaRules(2.0, -1.0, 0.0), image_range=None)(images)
    assert not relevance.image.any()


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, -1.0), (0.5, 0.5)])
def test_shares_that_do_not_fit_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(RelevanceError, match=f"alpha={alpha}, beta={beta}"):
        AlphaBetaRules(alpha, beta)


def test_negative_epsilon_is_refused() -> None:
    with pytest.raises(RelevanceError, match="epsilon"):
        AlphaBetaRules(epsilon=-1.0)


def test_a_module_without_a_rule_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.GELU(), nn.Flatten())
    with pytest.raises(MissingRuleError, match=r"GELU \(at '1'.*AlphaBetaRules\(table="):
        LRP(network, AlphaBetaRules())
