"""Targets: the quantity that a map explains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cxr_isnet.relevance import (
    LRP,
    EpsilonRules,
    RelevanceError,
    classes,
    highest,
    log_odds,
    per_class,
    selective,
    stochastic,
    sum_of_logits,
    top_probability,
)

from .networks import ConvNet, randomise


def eta(logits: Tensor, index: Tensor) -> Tensor:
    """log p_c - log(1 - p_c), from its definition."""
    p = logits.softmax(1).gather(1, index[:, None])[:, 0]
    return p.log() - (1 - p).log()


def test_per_class_is_one_map_of_each_logit() -> None:
    seed = per_class(torch.randn(4, 3))
    assert torch.equal(seed, torch.eye(3)[:, None].expand(3, 4, 3))


def test_sum_of_logits_is_one_map_of_their_sum() -> None:
    assert torch.equal(sum_of_logits(torch.randn(4, 3)), torch.ones(1, 4, 3))


def test_classes_explains_the_classes_asked_for() -> None:
    index = torch.tensor([[0, 2], [1, 1]])
    seed = classes(index)(torch.randn(2, 3))
    assert seed.shape == (2, 2, 3)
    assert seed.argmax(2).t().tolist() == index.tolist()
    assert torch.equal(classes(index[:, 0])(torch.randn(2, 3)), seed[:1])


@pytest.mark.parametrize(("index", "columns"), [(2, [2]), (torch.tensor(1), [1]), ([0, 2], [0, 2])])
def test_one_class_or_a_few_for_every_image(index: object, columns: list[int]) -> None:
    seed = classes(index)(torch.randn(4, 3))  # type: ignore[arg-type]
    assert seed.argmax(2).t().tolist() == [columns] * 4


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RelevanceError, match="do not fit logits of shape"):
        classes(3)(torch.randn(2, 3))


def test_highest_explains_the_highest_logit_of_each_image() -> None:
    logits = torch.randn(5, 4)
    assert highest(logits)[0].argmax(1).tolist() == logits.argmax(1).tolist()


@pytest.mark.parametrize("index", [torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0, 1, 2])])
def test_classes_that_do_not_exist_are_refused(index: Tensor) -> None:
    with pytest.raises(RelevanceError, match="do not fit logits of shape"):
        classes(index)(torch.randn(2, 3))


def test_log_odds_is_the_derivative_of_eta() -> None:
    logits, index = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 1, 2, 3, 0])
    (expected,) = torch.autograd.grad(eta(logits, index).sum(), logits)
    assert_close(log_odds(logits, index)[0], expected)


def test_with_two_classes_log_odds_is_the_difference_of_the_logits() -> None:
    seed = log_odds(torch.randn(2, 2), torch.tensor([0, 1]))
    assert seed[0].tolist() == [[1.0, -1.0], [-1.0, 1.0]]


def test_log_odds_do_not_change_with_a_constant_added_to_all_logits() -> None:
    logits, index = torch.randn(3, 4), torch.tensor([1, 2, 3])
    assert_close(log_odds(logits + 7.0, index), log_odds(logits, index))


def test_a_confident_image_keeps_its_map() -> None:
    seed = selective(torch.tensor([[80.0, 0.0, -80.0]]))
    assert float(seed.abs().sum()) == pytest.approx(2.0)


def test_selective_explains_eta_of_the_lowest_logit(images: Tensor) -> None:
    network, x = randomise(ConvNet()), images.requires_grad_()
    logits = network(x)
    (grad,) = torch.autograd.grad(eta(logits, logits.argmin(1)).sum(), x)
    _, relevance = LRP(network, EpsilonRules(0.0), image_range=None)(x, selective)
    assert_close(relevance.image[:, 0], x * grad, rtol=1e-9, atol=1e-12)


def test_permuting_the_classes_leaves_the_selective_map(images: Tensor) -> None:
    network = randomise(ConvNet())
    before = LRP(network)(images, selective)[1].image
    with torch.no_grad():
        network[8].weight.copy_(network[8].weight[[2, 0, 1]])
        network[8].bias.copy_(network[8].bias[[2, 0, 1]])
    assert_close(LRP(network)(images, selective)[1].image, before)


def test_the_explained_quantity_is_differentiated_too() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    assert torch.autograd.gradcheck(selective, (logits,))


@pytest.mark.parametrize("probability", [0.5, 0.2])
def test_stochastic_explains_the_top_as_often_as_asked_and_others_uniformly(probability: float) -> None:
    count, top = 20_000, 2
    logits = torch.tensor([0.3, -1.0, 2.0, 0.5]).expand(count, 4)
    target = stochastic(torch.Generator().manual_seed(1), probability)
    shares = target(logits)[0].mean(0)
    for k, share in enumerate(shares.tolist()):
        p = probability if k == top else (1 - probability) / 3
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_stochastic_at_the_ends_never_or_always_explains_the_top(probability: float) -> None:
    logits = torch.randn(500, 3)
    chosen = stochastic(probability=probability)(logits)[0].argmax(1)
    assert torch.equal(chosen == logits.argmax(1), torch.full((500,), probability == 1.0))


def test_stochastic_samples_for_each_image_and_repeats_with_its_generator() -> None:
    logits = torch.randn(50, 3)
    one, two, other = (stochastic(torch.Generator().manual_seed(s))(logits) for s in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("target", [selective, stochastic()])
def test_one_output_has_no_other_class_to_explain(target: object) -> None:
    with pytest.raises(RelevanceError, match="per_class"):
        target(torch.randn(2, 1))  # type: ignore[operator]


def test_top_probability_is_the_derivative_of_the_highest_probability() -> None:
    logits = torch.randn(5, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(logits.softmax(1).amax(1).sum(), logits)
    assert_close(top_probability(logits)[0], expected)
