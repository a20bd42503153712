"""LRP as a whole: derivatives of the heatmap loss, batches, maps, threads, copies, compilation, precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.losses import HeatmapLossConfig, RelevanceBounds, heatmap_loss
from cxr_isnet.relevance import (
    EPSILON_TABLE,
    LRP,
    AlphaBetaRules,
    EpsilonPoints,
    EpsilonRules,
    RelevanceError,
    classes,
    per_class,
    selective,
    sum_of_logits,
)

from .networks import ConvNet, DenseNet, FunctionalNet, ResidualNet, UNetEncoder, VariedConvNet, randomise

KINDS = [ConvNet, ResidualNet, DenseNet, VariedConvNet, FunctionalNet, UNetEncoder]


def loss_of(maps: Mapping[str, Tensor], rule_sets: int = 1) -> Tensor:
    """A heatmap loss all of whose terms are at work, with the left half as the lung."""
    some = next(iter(maps.values()))
    mask = torch.zeros(len(some), 1, *maps["image"].shape[-2:], dtype=some.dtype)
    mask[..., : mask.shape[-1] // 2] = 1
    bounds = {name: [RelevanceBounds(50.0, 60.0)] * rule_sets for name in maps}
    config = HeatmapLossConfig(decay=0.8, layer_decay=0.7)
    return heatmap_loss(maps, mask, torch.ones(len(some), dtype=torch.bool), bounds, config).loss


def heatmap_loss_of(lrp: LRP, images: Tensor, target: Any = per_class) -> Tensor:
    _, relevance = lrp(images, target)
    return loss_of({"image": relevance.image, **relevance.layers}, len(lrp._propagations))


# ---- derivatives by the weights


@pytest.mark.parametrize("image_range", [None, (0.0, 1.0)])
def test_heatmap_loss_gradient_by_every_weight_equals_finite_differences(
    image_range: tuple[float, float] | None, images: Tensor
) -> None:
    lrp = LRP(randomise(ConvNet(classes=2)), EpsilonRules(0.05), image_range=image_range)
    assert gradcheck(lrp, images[:2, :, :6, :6], fast=False)


@pytest.mark.parametrize("target", [per_class, selective])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: LRP(randomise(ResidualNet()), layers=["pool", "act"]), id="residual"),
        pytest.param(lambda: LRP(randomise(DenseNet()), layers=["pool0", "pool3"]), id="dense"),
        pytest.param(lambda: LRP(randomise(VariedConvNet())), id="varied"),
        pytest.param(lambda: LRP(randomise(FunctionalNet())), id="functional"),
        pytest.param(lambda: LRP(randomise(UNetEncoder())), id="unet"),
        pytest.param(
            lambda: LRP(randomise(ResidualNet()), EpsilonRules(0.05, EpsilonPoints.REFERENCE)),
            id="reference points",
        ),
        pytest.param(lambda: LRP(randomise(DenseNet()), [AlphaBetaRules(), EpsilonRules()]), id="dual"),
    ],
)
def test_heatmap_loss_gradient_equals_finite_differences(make: Callable[[], LRP], target: Any, images: Tensor) -> None:
    assert gradcheck(make(), images[:2], target=target)


def gradcheck(lrp: LRP, images: Tensor, *, target: Any = per_class, fast: bool = True) -> bool:
    names = [name for name, _ in lrp.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        _, relevance = torch.func.functional_call(lrp, parameters, (images, target))
        return loss_of({"image": relevance.image, **relevance.layers}, len(lrp._propagations))

    return torch.autograd.gradcheck(loss, tuple(lrp.parameters()), fast_mode=fast, atol=1e-6)


def written_out(network: ConvNet, images: Tensor, deviation: Tensor, mean: Tensor, *, z_b: bool) -> Tensor:
    """ConvNet's maps in training mode, layer by layer, the statistics of the relevance pass given as constants."""
    epsilon, first = 0.05, 0.02
    conv1, norm, conv2, head = network[0], network[1], network[4], network[8]
    z = F.batch_norm(conv1(images), None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
    y1 = F.relu(z)
    pooled, winners = F.max_pool2d(y1, 2, return_indices=True)
    y2 = F.relu(conv2(pooled))
    scale = norm.weight / deviation
    weight, bias = conv1.weight * scale[:, None, None, None], norm.bias - mean * scale
    maps = []
    for k in range(head.out_features):
        signal = (head.weight[k] / (y2.shape[2] * y2.shape[3]))[None, :, None, None].expand_as(y2)
        signal = F.conv_transpose2d(signal * y2 / (y2 + epsilon), conv2.weight, padding=1)
        signal = F.max_unpool2d(signal, winners, 2, output_size=y1.shape)
        if z_b:
            down = F.conv2d(torch.ones_like(images), weight.clamp(max=0), bias.clamp(max=0), padding=1)
            denominator = z - down
            share = signal * y1 / (denominator + first * torch.where(denominator >= 0, 1.0, -1.0))
            up = F.conv_transpose2d(share, weight.clamp(min=0), padding=1)
            maps.append(images * up + (images - 1) * F.conv_transpose2d(share, weight.clamp(max=0), padding=1))
        else:
            maps.append(images * F.conv_transpose2d(signal * y1 / (y1 + epsilon), weight, padding=1))
    return torch.stack(maps, 1)


@pytest.mark.parametrize("z_b", [False, True])
def test_in_training_mode_the_gradient_flows_through_activations_but_not_through_the_statistics_of_the_relevance_pass(
    z_b: bool,
) -> None:
    network, images = randomise(ConvNet()).train(), torch.rand(3, 2, 8, 8)
    lrp = LRP(network, EpsilonRules(0.05), image_range=(0.0, 1.0) if z_b else None, first_epsilon=0.02)
    parameters = list(network.parameters())
    found = torch.autograd.grad(heatmap_loss_of(lrp, images), parameters, materialize_grads=True)
    with torch.no_grad():
        before = network[0](images)
        mean = before.mean((0, 2, 3))
        deviation = (before.var((0, 2, 3), unbiased=False) + network[1].eps).sqrt()

    def loss() -> float:
        return float(loss_of({"image": written_out(network, images, deviation, mean, z_b=z_b)}))

    with torch.no_grad():
        assert_close(loss(), float(heatmap_loss_of(lrp, images)), rtol=1e-9, atol=0)
        for parameter, gradient in zip(parameters, found, strict=True):
            direction, step = torch.randn_like(parameter), 1e-6
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
            assert_close((above - below) / (2 * step), float((gradient * direction).sum()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_trained_by_the_heatmap_loss(kind: type[nn.Module], training: bool, images: Tensor) -> None:
    network = randomise(kind()).train(training)
    heatmap_loss_of(LRP(network), images).backward()
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
            assert parameter.grad.isfinite().all(), name


# ---- batches, maps, layers


@pytest.mark.parametrize("kind", KINDS)
def test_in_evaluation_a_map_does_not_depend_on_the_rest_of_the_batch(kind: type[nn.Module], images: Tensor) -> None:
    lrp = LRP(randomise(kind()))
    _, together = lrp(images)
    for i in range(len(images)):
        _, alone = lrp(images[i : i + 1])
        assert_close(together.image[i : i + 1], alone.image, rtol=1e-10, atol=1e-14)


def test_repeating_the_batch_repeats_the_maps_and_keeps_the_loss(images: Tensor) -> None:
    lrp = LRP(randomise(ResidualNet()), layers=["pool"])
    _, once = lrp(images)
    _, twice = lrp(images.repeat(2, 1, 1, 1))
    assert_close(twice.image, once.image.repeat(2, 1, 1, 1, 1), rtol=1e-10, atol=1e-14)
    assert_close(heatmap_loss_of(lrp, images.repeat(2, 1, 1, 1)), heatmap_loss_of(lrp, images))


@pytest.mark.parametrize("kind", KINDS)
def test_many_maps_at_once_equal_one_at_a_time(kind: type[nn.Module], images: Tensor) -> None:
    lrp = LRP(randomise(kind()))
    _, together = lrp(images, per_class)
    for k in range(3):
        _, single = lrp(images, classes(torch.full((3,), k)))
        assert_close(together.image[:, k : k + 1], single.image, rtol=1e-10, atol=1e-14)


def test_maps_follow_their_classes_when_these_are_permuted(images: Tensor) -> None:
    network, order = randomise(ConvNet()), [2, 0, 1]
    before = LRP(network)(images)[1].image
    with torch.no_grad():
        network[8].weight.copy_(network[8].weight[order])
        network[8].bias.copy_(network[8].bias[order])
    assert_close(LRP(network)(images)[1].image, before[:, order])


def test_maps_have_one_place_for_image_map_channel_and_pixel(images: Tensor) -> None:
    lrp = LRP(randomise(DenseNet()), layers=["pool0", "conv3"])
    _, relevance = lrp(images)
    assert relevance.image.shape == (3, 3, 2, 9, 8)
    assert relevance.layers["pool0"].shape == (3, 3, 3, 5, 4)
    assert relevance.layers["conv3"].shape == (3, 3, 4, 5, 4)


def test_relevance_of_the_image_does_not_depend_on_the_layers_asked_for(images: Tensor) -> None:
    network = randomise(DenseNet())
    names = [n for n, m in network.named_modules() if n and n not in ("conv0", "norm0", "head")]
    names.remove("dropout")
    assert_close(LRP(network, layers=names)(images)[1].image, LRP(network)(images)[1].image)


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(RelevanceError, match="no module 'pool9'"):
        LRP(ResidualNet(), layers=["pool9"])


def test_a_layer_inside_the_first_one_is_refused() -> None:
    with pytest.raises(RelevanceError, match="'norm0' lies inside the first layer"):
        LRP(ResidualNet(), layers=["norm0"])


def test_a_target_of_the_wrong_shape_is_refused(images: Tensor) -> None:
    with pytest.raises(RelevanceError, match=r"signal of shape \(3, 3\); needed: \(K, \*\(3, 3\)\)"):
        LRP(randomise(ConvNet()))(images, torch.ones_like)


def test_the_network_is_used_as_it_is() -> None:
    network = ConvNet()
    lrp = LRP(network)
    assert lrp.network is network
    assert all(p is q for p, q in zip(lrp.parameters(), network.parameters(), strict=True))
    assert not any(m._forward_hooks or m._backward_hooks for m in lrp.modules())
    lrp.train()
    assert network.training


# ---- no state anywhere


def losses_and_gradients(lrp: LRP, images: Tensor, times: int = 1) -> list[Tensor]:
    found = []
    for _ in range(times):
        loss = heatmap_loss_of(lrp, images)
        found += [loss.detach(), *torch.autograd.grad(loss, list(lrp.parameters()), materialize_grads=True)]
    return found


def test_two_networks_in_two_threads_give_what_they_give_alone(images: Tensor) -> None:
    lrps = [LRP(randomise(ResidualNet())), LRP(randomise(DenseNet()), [AlphaBetaRules(), EpsilonRules(0.3)])]
    alone = [losses_and_gradients(lrp, images) * 10 for lrp in lrps]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda lrp: losses_and_gradients(lrp, images, 10), lrps))
    for expected, found in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_deep_copy_is_a_network_of_its_own(images: Tensor) -> None:
    lrp = LRP(randomise(ResidualNet()))
    expected = lrp(images)[1].image
    copied = copy.deepcopy(lrp)
    with torch.no_grad():
        for parameter in lrp.parameters():
            parameter.zero_()
    assert_close(copied(images)[1].image, expected)
    copied(images)[1].image.sum().backward()
    assert all(p.grad is None for p in lrp.parameters())


def test_new_weights_are_seen(images: Tensor) -> None:
    one, two = randomise(ResidualNet()), randomise(ResidualNet())
    lrp = LRP(one)
    one.load_state_dict(two.state_dict())
    assert_close(lrp(images)[1].image, LRP(two)(images)[1].image)


def test_after_an_exception_in_the_relevance_pass_the_plain_backward_is_plain(images: Tensor) -> None:
    def fail(*_: object) -> tuple[Tensor]:
        raise RuntimeError("rule failed")

    network = randomise(ConvNet())
    parameters = list(network.parameters())
    before = torch.autograd.grad(network(images).square().sum(), parameters)
    lrp = LRP(network, EpsilonRules(table={**EPSILON_TABLE, nn.MaxPool2d: fail}))
    with pytest.raises(RuntimeError, match="rule failed"):
        lrp(images)
    after = torch.autograd.grad(network(images).square().sum(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_evaluation_without_gradients_gives_the_same_maps(images: Tensor) -> None:
    lrp = LRP(randomise(DenseNet()))
    with torch.inference_mode():
        _, relevance = lrp(images)
    assert_close(relevance.image.clone(), lrp(images)[1].image.detach())


# ---- compilation and precision


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (DenseNet, [EpsilonRules()]),
        (DenseNet, [AlphaBetaRules(), EpsilonRules()]),
        (ResidualNet, [AlphaBetaRules(2.0, -1.0)]),
        (ResidualNet, [EpsilonRules(points=EpsilonPoints.REFERENCE)]),
        (FunctionalNet, [EpsilonRules()]),
        (VariedConvNet, [EpsilonRules()]),
    ],
)
def test_compiles_without_a_graph_break(
    kind: type[nn.Module], rules: list[Any], training: bool, images: Tensor
) -> None:
    lrp = LRP(randomise(kind()), rules).train(training)
    for module in lrp.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    twin = copy.deepcopy(lrp)
    torch.compiler.reset()
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    logits, relevance = lrp(images, selective)
    found_logits, found = compiled(images, selective)
    assert_close(found_logits, logits)
    assert_close(found.image, relevance.image)
    for one, other in zip(gradients_of(twin, found.image), gradients_of(lrp, relevance.image), strict=True):
        assert_close(one, other, rtol=1e-8, atol=1e-12)
    for one, other in zip(twin.buffers(), lrp.buffers(), strict=True):
        assert_close(one, other)


def gradients_of(lrp: LRP, image: Tensor) -> tuple[Tensor, ...]:
    loss = loss_of({"image": image}, len(lrp._propagations))
    return torch.autograd.grad(loss, list(lrp.parameters()), materialize_grads=True)


@pytest.mark.parametrize("rules", [EpsilonRules(), AlphaBetaRules(), EpsilonRules(points=EpsilonPoints.REFERENCE)])
@pytest.mark.parametrize("image_range", [None, (0.0, 1.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_relevance_is_float32_and_close(
    kind: type[nn.Module], image_range: tuple[float, float] | None, rules: Any, images: Tensor
) -> None:
    network, images = randomise(kind()).float(), images.float()
    lrp = LRP(network, rules, image_range=image_range)
    _, exact = lrp(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, narrow = lrp(images)
        loss = loss_of({"image": narrow.image})
        assert torch.equal(logits, network(images))
    loss.backward()
    assert narrow.image.dtype == loss.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    # not closer in maps this small, because near ties in a max pool go to another winner
    assert F.cosine_similarity(narrow.image.flatten(), exact.image.flatten(), dim=0) > 0.95


def test_float32_maps_are_close_to_float64(images: Tensor) -> None:
    network = randomise(DenseNet())
    exact = LRP(network)(images, sum_of_logits)[1].image
    single = LRP(copy.deepcopy(network).float())(images.float(), sum_of_logits)[1].image
    assert_close(single.double(), exact, rtol=1e-4, atol=1e-6 * float(exact.detach().abs().max()))
