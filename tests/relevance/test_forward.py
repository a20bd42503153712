"""Running a network step by step leaves it, its logits and its gradients as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import LRP, RelevanceError

from .networks import (
    ConvNet,
    DenseNet,
    FunctionalNet,
    ResidualNet,
    UNetEncoder,
    VariedConvNet,
    frozen_at,
    randomise,
)

KINDS = [ConvNet, ResidualNet, DenseNet, VariedConvNet, FunctionalNet, UNetEncoder]


def gradients(network: nn.Module, logits: Tensor) -> list[Tensor]:
    labels = torch.arange(len(logits)) % logits.shape[1]
    return list(torch.autograd.grad(nn.functional.cross_entropy(logits, labels), list(network.parameters())))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_gradients_and_running_statistics_are_those_of_the_plain_network(
    kind: type[nn.Module], training: bool, images: Tensor
) -> None:
    network = randomise(kind()).train(training)
    plain = copy.deepcopy(network)
    torch.manual_seed(3)
    expected = plain(images)
    torch.manual_seed(3)
    logits, _ = LRP(network)(images)
    assert torch.equal(logits, expected)
    for found, wanted in zip(gradients(network, logits), gradients(plain, expected), strict=True):
        assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    for (name, found), wanted in zip(network.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(found, wanted), name


def test_gradients_are_bit_equal_after_a_relevance_pass(images: Tensor) -> None:
    network = randomise(ResidualNet())
    before = gradients(network, network(images))
    LRP(network)(images)[1].image.sum().backward()
    after = gradients(network, network(images))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "norm",
    [
        pytest.param(lambda: nn.BatchNorm2d(4, momentum=None), id="cumulative average"),
        pytest.param(lambda: nn.BatchNorm2d(4, momentum=0.3), id="momentum"),
        pytest.param(lambda: nn.BatchNorm2d(4, track_running_stats=False), id="batch statistics only"),
        pytest.param(lambda: nn.BatchNorm2d(4, affine=False), id="without weights"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_batch_norms_of_every_kind(norm: Callable[[], nn.Module], training: bool, images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), norm(), nn.ReLU(), nn.Flatten(), nn.Linear(168, 2)).train(training)
    plain = copy.deepcopy(network)
    lrp = LRP(network)
    for _ in range(3):
        logits, relevance = lrp(images)
        assert torch.equal(logits, plain(images))
        assert relevance.image.isfinite().all()
    for found, wanted in zip(network.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(found, wanted)


def test_statistics_are_held_constant_in_the_relevance_pass(images: Tensor) -> None:
    """In training the maps are those of the network with the batch's statistics written into it."""
    network = randomise(DenseNet(dropout=0.0))
    frozen = frozen_at(network, images)
    assert_close(LRP(network.train())(images)[1].image, LRP(frozen)(images)[1].image, rtol=1e-9, atol=1e-12)


def test_no_activation_is_overwritten(images: Tensor) -> None:
    network, copied = randomise(ResidualNet()), images.clone()  # its ReLU works in place when called as usual
    logits, relevance = LRP(network)(images)
    (logits.sum() + relevance.image.abs().sum()).backward()
    assert torch.equal(images, copied)


def test_an_output_that_is_not_logits_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    with pytest.raises(RelevanceError, match=r"must return logits \(B, classes\); it returned shape \(2, 1, 3, 3\)"):
        LRP(network)(torch.rand(2, 1, 5, 5))
