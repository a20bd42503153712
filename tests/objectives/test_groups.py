"""Balanced groups and group DRO, against explicit loops in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.objectives.balance import BalanceConfig, Groups, TrainingSet
from cxr_isnet.objectives.cross_entropy import CrossEntropy
from cxr_isnet.objectives.groups import Balanced, BalancedOptions, GroupDRO, GroupDROOptions
from cxr_isnet.objectives.methods import find_method

LABELS = [0, 0, 0, 0, 0, 1, 1, 1, 2, 0]
SITES = [0, 0, 0, 0, 0, 1, 1, 0, 0, 1]
SIZES = {(0, 0): 5, (1, 1): 2, (1, 0): 1, (2, 0): 1, (0, 1): 1}
"""Images of each group that training has; class 2 of site 1 is absent."""

TRAINING = TrainingSet(torch.tensor(LABELS), torch.tensor(SITES), 3, 2)
BOTH = BalancedOptions(sampling=True, weighting=True)
WEIGHTED = BalancedOptions(sampling=False, weighting=True)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def a_batch(groups: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Images of labels and sites."""
    labels, sites = torch.tensor(groups).t()
    images = torch.rand(len(groups), 1, 4, 4, generator=torch.Generator().manual_seed(len(groups)))
    return {"image": images, "label": labels, "site": sites}


def losses_of(objective: nn.Module, batch: dict[str, torch.Tensor]) -> list[float]:
    with torch.no_grad():
        logits = objective.network(batch["image"]).double().numpy()
    return [float(np.log(np.exp(z).sum()) - z[y]) for z, y in zip(logits, batch["label"], strict=True)]


def prepared(kind: Callable[..., Any], options: Any) -> Any:
    objective = kind(network(), options)
    objective.see_training_set(TRAINING)
    return objective


BATCH = a_batch([(0, 0), (1, 1), (1, 0), (0, 0), (2, 0), (0, 1)])
GROUPS = [(0, 0), (1, 1), (1, 0), (0, 0), (2, 0), (0, 1)]


def test_weights_make_every_group_that_is_there_count_the_same():
    """An image of a group of n counts N / (G n)."""
    objective = prepared(Balanced, WEIGHTED)

    loss = float(objective(BATCH)["loss"].detach())

    each = [10 / (5 * SIZES[g]) * value for g, value in zip(GROUPS, losses_of(objective, BATCH), strict=True)]
    assert loss == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("options", [BalancedOptions(), BOTH, WEIGHTED])
def test_sampling_and_weights_together_balance_the_groups(options):
    """Over the images as they are drawn, the mean loss is the mean of the groups' mean losses."""
    objective = prepared(Balanced, options)
    drawn = np.ones(10) if objective.sampling_weights is None else objective.sampling_weights.double().numpy()
    probability = drawn / drawn.sum()

    alone = [float(objective(a_batch([g]))["loss"].detach()) for g in SIZES]
    plain = [losses_of(objective, a_batch([g]))[0] for g in SIZES]

    per_image = dict(zip(SIZES, alone, strict=True))
    expectation = sum(p * per_image[g] for p, g in zip(probability, zip(LABELS, SITES, strict=True), strict=True))
    assert expectation == pytest.approx(np.mean(plain), rel=1e-5)


def test_sampling_draws_each_group_equally_often_and_leaves_the_loss_alone():
    objective = prepared(Balanced, BalancedOptions())

    drawn = objective.sampling_weights.numpy()
    shares = {g: drawn[[z == g for z in zip(LABELS, SITES, strict=True)]].sum() for g in SIZES}

    assert np.ptp(list(shares.values())) < 1e-6
    assert float(objective(BATCH)["loss"].detach()) == pytest.approx(np.mean(losses_of(objective, BATCH)), rel=1e-5)


@pytest.mark.parametrize("options", [BalancedOptions(), BOTH, WEIGHTED])
def test_validation_images_count_by_the_inverse_frequency_however_training_balances(options):
    objective = prepared(Balanced, options).eval()
    expected = prepared(Balanced, WEIGHTED)(BATCH)["loss"]

    torch.testing.assert_close(objective(BATCH)["loss"], expected)


@pytest.mark.parametrize(("kind", "options"), [(Balanced, WEIGHTED), (GroupDRO, GroupDROOptions())])
@pytest.mark.parametrize("group", [(2, 1), (0, -1)])
def test_a_validation_image_of_an_unknown_group_counts_once(kind, options, group):
    objective = prepared(kind, options).eval()
    batch = a_batch([group])

    assert float(objective(batch)["loss"].detach()) == pytest.approx(losses_of(objective, batch)[0], rel=1e-5)


def test_group_dro_follows_its_algorithm_over_several_steps():
    objective = prepared(GroupDRO, GroupDROOptions(step_size=0.5))
    batches = [GROUPS, [(0, 0), (0, 0), (1, 1)], [(2, 0), (1, 0), (2, 0), (0, 1)]]
    q = dict.fromkeys(SIZES, 1 / 5)

    for groups in batches:
        batch = a_batch(groups)
        losses = losses_of(objective, batch)
        means = {g: np.mean([v for h, v in zip(groups, losses, strict=True) if h == g]) for g in set(groups)}
        raised = {g: q[g] * np.exp(0.5 * means.get(g, 0.0)) for g in q}
        q = {g: value / sum(raised.values()) for g, value in raised.items()}

        terms = objective(batch)

        assert float(terms["loss"].detach()) == pytest.approx(sum(q[g] * means[g] for g in means), rel=1e-5)
        assert float(terms["largest_weight"]) == pytest.approx(max(q.values()), rel=1e-5)
    assert objective.weights.reshape(3, 2)[2, 1] == 0


def test_a_gradient_is_that_of_the_weighted_groups():
    objective = prepared(GroupDRO, GroupDROOptions(step_size=0.5))

    objective(BATCH)["loss"].backward()

    found = objective.network[1].weight.grad.clone()
    objective.zero_grad()
    losses = nn.functional.cross_entropy(objective.network(BATCH["image"]), BATCH["label"], reduction="none")
    sizes = [GROUPS.count(g) for g in GROUPS]
    q = [objective.weights.reshape(3, 2)[g] for g in GROUPS]
    sum(value * weight / size for value, weight, size in zip(losses, q, sizes, strict=True)).backward()
    torch.testing.assert_close(found, objective.network[1].weight.grad)


def test_validation_of_group_dro_moves_no_weight_and_sums_to_the_weighted_groups():
    objective = prepared(GroupDRO, GroupDROOptions(step_size=0.5))
    objective(BATCH)
    objective.eval()
    before = objective.weights.clone()

    whole = a_batch(list(zip(LABELS, SITES, strict=True)))  # the groups are as frequent as in training
    loss = float(objective(whole)["loss"].detach())

    losses = losses_of(objective, whole)
    means = {
        g: np.mean([v for h, v in zip(zip(LABELS, SITES, strict=True), losses, strict=True) if h == g]) for g in SIZES
    }
    assert loss == pytest.approx(sum(float(before.reshape(3, 2)[g]) * means[g] for g in SIZES), rel=1e-5)
    assert torch.equal(objective.weights, before)


def test_the_groups_weights_travel_with_the_state():
    trained, fresh = (prepared(GroupDRO, GroupDROOptions(step_size=0.5)) for _ in range(2))
    trained(BATCH)

    fresh.load_state_dict(trained.state_dict())

    assert torch.equal(fresh.weights, trained.weights)
    assert torch.equal(fresh.counts, trained.counts)


def test_two_processes_move_the_weights_and_the_network_as_one(monkeypatch):
    """Each has half of a batch; sums and sizes of the groups are added up, gradients are averaged."""
    whole = prepared(GroupDRO, GroupDROOptions(step_size=0.5))
    whole(BATCH)["loss"].backward()
    halves = [{key: value[part] for key, value in BATCH.items()} for part in (slice(0, 2), slice(2, 6))]
    processes = [prepared(GroupDRO, GroupDROOptions(step_size=0.5)) for _ in halves]
    totals: list[torch.Tensor] = []
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)

    monkeypatch.setattr("torch.distributed.all_reduce", lambda total: totals.append(total.clone()))
    for process, half in zip(processes, halves, strict=True):
        process(half)
        process.see_training_set(TRAINING)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda total: total.copy_(totals[0] + totals[1]))
    for process, half in zip(processes, halves, strict=True):
        process(half)["loss"].backward()

    gradients = [process.network[1].weight.grad for process in processes]
    torch.testing.assert_close(sum(gradients) / 2, whole.network[1].weight.grad)
    for process in processes:
        torch.testing.assert_close(process.weights, whole.weights)


@pytest.mark.parametrize(("kind", "options"), [(Balanced, BalancedOptions()), (GroupDRO, GroupDROOptions())])
def test_groups_that_nobody_told_are_missed(kind, options):
    with pytest.raises(InputError, match="call see_training_set"):
        kind(network(), options)(BATCH)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("balanced", {"sampling": False, "weighting": False}, "both false: switch one on"),
        ("group_dro", {"step_size": 0.0}, r"step_size is 0.0; it must be above 0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_reported(method, options, message):
    with pytest.raises(InputError, match=message):
        find_method(method).parse_options(options)


CONFIGS = [
    BalanceConfig(groups, sampling, weighting)
    for groups in (Groups.CLASS, Groups.CLASS_AND_SITE)
    for sampling, weighting in ((True, False), (False, True), (True, True))
]


def group_of(label: int, site: int, groups: Groups) -> tuple[int, ...]:
    return (label,) if groups is Groups.CLASS else (label, site)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_any_method_balances_groups_as_it_is_told(config):
    """Over the images as they are drawn, the mean loss is the mean of the groups' mean losses."""
    objective = CrossEntropy(network())
    objective.balance(TRAINING, config)
    drawn = np.ones(10) if objective.sampling_weights is None else objective.sampling_weights.double().numpy()
    images = list(zip(LABELS, SITES, strict=True))

    alone = [float(objective(a_batch([image]))["loss"].detach()) for image in images]
    plain = [losses_of(objective, a_batch([image]))[0] for image in images]

    by_group: dict[tuple[int, ...], list[float]] = {}
    for image, value in zip(images, plain, strict=True):
        by_group.setdefault(group_of(*image, config.groups), []).append(value)
    expected = np.mean([np.mean(values) for values in by_group.values()])
    assert np.average(alone, weights=drawn) == pytest.approx(expected, rel=1e-5)
    objective.eval()
    assert np.mean([float(objective(a_batch([i]))["loss"].detach()) for i in images]) == pytest.approx(
        expected, rel=1e-5
    )
    assert "loss_weights" not in objective.state_dict()  # which belongs to the images, and is found again from them


def test_the_method_balanced_is_the_setting():
    setting = CrossEntropy(network())
    setting.balance(TRAINING, BalanceConfig(Groups.CLASS_AND_SITE, sampling=True, weighting=True))
    method = prepared(Balanced, BOTH)

    assert torch.equal(setting(BATCH)["loss"], method(BATCH)["loss"])
    assert torch.equal(setting.sampling_weights, method.sampling_weights)


def test_a_method_that_balances_by_itself_or_cannot_weigh_says_so():
    with pytest.raises(InputError, match="balances groups by itself: leave balance out"):
        prepared(GroupDRO, GroupDROOptions()).balance(TRAINING, CONFIGS[0])
    unweighable = type("Unweighable", (CrossEntropy,), {"takes_loss_weights": False})(network())
    with pytest.raises(InputError, match="takes no weights: balance by sampling alone"):
        unweighable.balance(TRAINING, CONFIGS[1])
    unweighable.balance(TRAINING, CONFIGS[0])
    with pytest.raises(InputError, match="switch one on, or set groups to none"):
        BalanceConfig(Groups.CLASS, sampling=False)
