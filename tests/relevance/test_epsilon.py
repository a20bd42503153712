"""LRP-epsilon: values against explicit matrices, gradient times input, conservation, epsilon's placement, tables."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet121, resnet18, resnet50
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import (
    EPSILON_TABLE,
    LRP,
    Call,
    EpsilonPoints,
    EpsilonRules,
    MissingRuleError,
    RelevanceError,
)

from .networks import (
    ConvNet,
    DenseNet,
    FunctionalNet,
    ResidualNet,
    UNetEncoder,
    VariedConvNet,
    frozen_at,
    randomise,
    without_biases,
)
from .oracle import Oracle

ACCOUNTED = [ConvNet, ResidualNet, DenseNet, VariedConvNet]


def oracle_maps(network: Any, images: Tensor, epsilon: float, z_b: tuple[float, float, float] | None = None) -> Tensor:
    """(B, classes, C, H, W)."""
    maps = []
    for image in images.numpy():
        oracle = Oracle(image)
        logits = network.account(oracle)
        seeds = np.eye(logits.bias_plus.size)
        maps.append([oracle.epsilon(logits, seed, epsilon, z_b)[0].reshape(image.shape) for seed in seeds])
    return torch.tensor(np.array(maps))


def gradient_times_input(network: nn.Module, images: Tensor) -> Tensor:
    """(B, classes, C, H, W)."""
    x = images.clone().requires_grad_()
    logits = network(x)
    grads = [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)[0] for k in range(logits.shape[1])]
    return images[:, None] * torch.stack(grads, 1)


def gradient_rules() -> EpsilonRules:
    return EpsilonRules(epsilon=0.0)


@pytest.mark.parametrize("kind", ACCOUNTED)
def test_oracle_and_network_agree_on_the_logits(kind: type[nn.Module], images: Tensor) -> None:
    network: Any = randomise(kind())
    expected = network(images)
    for image, row in zip(images.numpy(), expected, strict=True):
        oracle = Oracle(image)
        assert_close(torch.tensor(oracle.number(network.account(oracle))), row.detach())


@pytest.mark.parametrize("epsilon", [1e-6, 1e-2, 0.3])
@pytest.mark.parametrize("kind", ACCOUNTED)
def test_equals_lrp_epsilon_written_as_matrices(kind: type[nn.Module], epsilon: float, images: Tensor) -> None:
    network = randomise(kind())
    _, relevance = LRP(network, EpsilonRules(epsilon), image_range=None)(images)
    assert_close(relevance.image.detach(), oracle_maps(network, images, epsilon), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ACCOUNTED)
def test_with_z_b_equals_lrp_written_as_matrices(kind: type[nn.Module], images: Tensor) -> None:
    network = randomise(kind())
    _, relevance = LRP(network, EpsilonRules(0.05), image_range=(0.0, 1.0), first_epsilon=0.02)(images)
    expected = oracle_maps(network, images, 0.05, (0.0, 1.0, 0.02))
    assert_close(relevance.image.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [ConvNet, ResidualNet])
def test_in_training_mode_batch_norm_uses_the_statistics_of_the_batch(kind: type[nn.Module], images: Tensor) -> None:
    network = randomise(kind())
    frozen = frozen_at(network, images)
    _, relevance = LRP(network.train(), EpsilonRules(0.01), image_range=None)(images)
    assert_close(relevance.image.detach(), oracle_maps(frozen, images, 0.01), rtol=1e-8, atol=1e-11)


def test_in_training_mode_a_dense_net_without_dropout_equals_its_frozen_self(images: Tensor) -> None:
    network = randomise(DenseNet(dropout=0.0))
    frozen = frozen_at(network, images)
    _, relevance = LRP(network.train(), EpsilonRules(0.01), image_range=None)(images)
    assert_close(relevance.image.detach(), oracle_maps(frozen, images, 0.01), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", [*ACCOUNTED, FunctionalNet, UNetEncoder])
def test_at_epsilon_zero_is_gradient_times_input(kind: type[nn.Module], images: Tensor) -> None:
    network = randomise(kind())
    logits, relevance = LRP(network, gradient_rules(), image_range=None)(images)
    assert torch.equal(logits, network(images))
    assert_close(relevance.image.detach(), gradient_times_input(network, images), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=2), id="densenet121"),
        pytest.param(lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=2), id="resnet18"),
        pytest.param(lambda: resnet50(spatial_dims=2, n_input_channels=1, num_classes=2), id="resnet50"),
    ],
)
def test_at_epsilon_zero_monai_networks_give_gradient_times_input(make: Callable[[], nn.Module]) -> None:
    network, images = randomise(make()), torch.rand(2, 1, 40, 36)
    logits, relevance = LRP(network, gradient_rules(), image_range=None)(images)
    expected = gradient_times_input(network, images)
    assert torch.equal(logits, network(images))
    assert_close(relevance.image.detach(), expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", [*ACCOUNTED, FunctionalNet, UNetEncoder])
def test_relevance_is_conserved_without_biases(kind: type[nn.Module], images: Tensor) -> None:
    network = without_biases(randomise(kind()))
    logits, relevance = LRP(network, EpsilonRules(1e-12), image_range=None)(images)
    assert_close(relevance.image.sum((2, 3, 4)), logits, rtol=1e-6, atol=1e-8)


def test_a_bias_absorbs_its_share() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1, 1, bias=False))
    for parameter, value in zip(network.parameters(), (2.0, 1.0, 3.0), strict=True):
        nn.init.constant_(parameter, value)
    image = torch.tensor([[[[0.5]]]])
    logits, relevance = LRP(network, gradient_rules(), image_range=None)(image)
    assert_close(relevance.image.sum(), logits.sum() * (1 - 1.0 / 2.0))


def test_overlapping_max_pool_keeps_all_relevance() -> None:
    network = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(25, 2, bias=False))
    images = torch.rand(4, 1, 9, 9)
    logits, relevance = LRP(network, gradient_rules(), image_range=None)(images)
    assert_close(relevance.image.sum((2, 3, 4)), logits)


def test_relevance_shrinks_as_epsilon_grows() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16, 1))
    for parameter in network.parameters():
        nn.init.uniform_(parameter)
    image = torch.rand(1, 1, 6, 6)
    totals = [
        float(LRP(network, EpsilonRules(e), image_range=None)(image)[1].image.abs().sum().detach())
        for e in (0, 0.1, 10, 1e9)
    ]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 1e-6 * totals[0]


def test_a_residual_sum_shares_relevance_in_proportion() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(self.left.weight, 3.0)
            nn.init.constant_(self.right.weight, -1.0)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.left(x) + self.right(x)).flatten(1)

    image, epsilon = torch.full((1, 1, 1, 1), 0.5), 0.25
    _, relevance = LRP(Sum(), EpsilonRules(epsilon), image_range=None, layers=["left", "right"])(image)
    total = 3 * 0.5 - 0.5
    received = total * total / (total + epsilon)
    assert_close(relevance.layers["left"].sum(), torch.tensor(1.5 * received / total))
    assert_close(relevance.layers["right"].sum(), torch.tensor(-0.5 * received / total))
    assert_close(relevance.image.sum(), torch.tensor(received))


@pytest.mark.parametrize("kind", [ConvNet, ResidualNet, DenseNet])
@pytest.mark.parametrize("epsilon", [0.0, 0.02])
def test_inner_relevance_does_not_depend_on_which_layers_are_asked_for(
    kind: type[nn.Module], epsilon: float, images: Tensor
) -> None:
    network = randomise(kind())
    names = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d)]
    rules = EpsilonRules(epsilon)
    _, together = LRP(network, rules, image_range=None, layers=names)(images)
    for name in names:
        _, alone = LRP(network, rules, image_range=None, layers=[name])(images)
        assert_close(together.layers[name], alone.layers[name])
        assert_close(together.image, alone.image)


@pytest.mark.parametrize("kind", [ConvNet, ResidualNet, DenseNet, UNetEncoder])
def test_inner_relevance_at_epsilon_zero_is_gradient_times_activation(kind: type[nn.Module], images: Tensor) -> None:
    network = randomise(kind())
    names = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.BatchNorm2d)]
    outputs: dict[str, Tensor] = {}
    for name in names:

        def keep(_: nn.Module, __: Any, output: Tensor, name: str = name) -> Tensor:
            outputs[name] = output
            return output.clone()  # an in-place ReLU behind it must not overwrite what is kept

        network.get_submodule(name).register_forward_hook(keep)
    logits = network(images)
    grads = torch.autograd.grad(logits[:, 1].sum(), list(outputs.values()))
    _, relevance = LRP(network, gradient_rules(), image_range=None, layers=names)(images)
    for (name, output), grad in zip(outputs.items(), grads, strict=True):
        assert_close(relevance.layers[name][:, 1], output * grad, rtol=1e-9, atol=1e-12)


# ---- the reference's points


class _Damp(torch.autograd.Function):
    """Identity whose gradient is multiplied by z / (z + epsilon sign z)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.epsilon = epsilon
        return z.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (z,) = ctx.saved_tensors
        return gradient * z / (z + ctx.epsilon * torch.where(z >= 0, 1.0, -1.0)), None


def damp(z: Tensor, epsilon: float) -> Tensor:
    return _Damp.apply(z, epsilon)


def damped_residual_net(net: ResidualNet, x: Tensor, e: float) -> Tensor:
    """ResidualNet, damped at ReLUs, max pool, both operands of a sum that are batch norms, pooled features, logits."""
    x = damp(F.relu(net.norm0(net.conv0(x))), e)
    x = damp(net.pool(x), e)
    branch = net.norm2(net.conv2(damp(F.relu(net.norm1(net.conv1(x))), e)))
    x = damp(F.relu(damp(branch, e) + x), e)
    x = damp(F.relu(damp(net.norm3(net.conv3(x)), e) + damp(net.norm_down(net.down(x)), e)), e)
    return damp(net.head(damp(x.mean((2, 3)), e)), e)


def damped_dense_net(net: DenseNet, x: Tensor, e: float) -> Tensor:
    """DenseNet, damped at ReLUs, pooled features and logits; its inner pools are read by batch norms."""
    x = net.pool0(damp(F.relu(net.norm0(net.conv0(x))), e))
    x = torch.cat([x, net.conv1(damp(F.relu(net.norm1(x)), e))], 1)
    x = torch.cat([x, net.conv2(damp(F.relu(net.norm2(x)), e))], 1)
    x = net.pool3(net.conv3(damp(F.relu(net.norm3(x)), e)))
    x = damp(F.relu(net.norm4(x)), e).mean((2, 3))
    return damp(net.head(damp(x, e)), e)


class DampedReLU(nn.ReLU):
    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return damp(F.relu(x), self.epsilon)


def damped_relus(network: nn.Module, epsilon: float) -> nn.Module:
    """A copy whose gradient times input is LRP-epsilon, for networks whose every ReLU is a module."""
    copied = copy.deepcopy(network)
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.ReLU:
                setattr(parent, name, DampedReLU(epsilon))
    return copied


class Bottlenecks(nn.Module):
    """Batch norms that can and cannot be multiplied into a neighbouring convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.norm0, self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(4) for _ in range(4))
        self.act = nn.ReLU()
        self.first, self.second = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 3, padding=1)
        self.grouped, self.pooled = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.AvgPool2d(2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.second(self.act(self.norm1(self.first(self.act(self.norm0(x))))))  # a factor on either side
        x = x + y  # the stem is read by a batch norm and by a sum
        gate = self.act(self.norm2(x))  # read by two convolutions
        x = self.grouped(self.act(self.norm3(self.grouped(gate)))) + self.second(gate)  # both used twice
        return self.head(self.pooled(self.act(x)).mean((2, 3)))


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=2), id="densenet121"),
        pytest.param(lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=2), id="resnet18"),
        pytest.param(Bottlenecks, id="bottlenecks"),
        pytest.param(UNetEncoder, id="unet"),
    ],
)
def test_equals_gradient_times_input_with_a_factor_at_every_relu(make: Callable[[], nn.Module], epsilon: float) -> None:
    network = randomise(make())
    channels = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).in_channels
    images = torch.rand(2, channels, 36, 40)
    _, relevance = LRP(network, EpsilonRules(epsilon), image_range=None)(images)
    expected = gradient_times_input(damped_relus(network, epsilon), images)
    assert_close(relevance.image.detach(), expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize(("kind", "damped"), [(ResidualNet, damped_residual_net), (DenseNet, damped_dense_net)])
def test_reference_points_are_those_of_the_reference(
    kind: type[nn.Module], damped: Callable[[Any, Tensor, float], Tensor], images: Tensor
) -> None:
    network, epsilon = randomise(kind()), 0.05
    rules = EpsilonRules(epsilon, EpsilonPoints.REFERENCE)
    _, relevance = LRP(network, rules, image_range=None)(images)
    expected = gradient_times_input(lambda x: damped(network, x, epsilon), images)  # type: ignore[arg-type]
    assert_close(relevance.image.detach(), expected, rtol=1e-9, atol=1e-12)


def test_reference_points_change_nothing_at_epsilon_zero(images: Tensor) -> None:
    network = randomise(ResidualNet())
    maps = [LRP(network, EpsilonRules(1e-13, p), image_range=None)(images)[1].image for p in EpsilonPoints]
    assert_close(maps[0], maps[1], rtol=1e-6, atol=1e-9)


# ---- tables


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if x.sum() > 0 else x * 2.0


def double_rule(call: Call, signal: Tensor) -> Sequence[Tensor]:
    return (2 * signal,)


def test_a_user_can_register_a_rule_for_a_module(images: Tensor) -> None:
    network = randomise(nn.Sequential(*list(ConvNet())[:6], Double(), *list(ConvNet())[6:]))
    rules = EpsilonRules(0.0, table={**EPSILON_TABLE, Double: double_rule})  # type: ignore[dict-item]
    _, relevance = LRP(network, rules, image_range=None)(images)
    assert_close(relevance.image.detach(), gradient_times_input(network, images))


def test_a_rule_for_convolutions_is_used_in_place_of_ours(images: Tensor) -> None:
    def ignore(call: Call, signal: Tensor) -> tuple[Tensor]:
        return (signal.new_zeros(signal.shape[0], *call.inputs[0].shape[1:]),)

    network = randomise(ConvNet())
    rules = EpsilonRules(table={**EPSILON_TABLE, nn.Conv2d: ignore})
    assert not LRP(network, rules, image_range=None)(images)[1].image.any()


@pytest.mark.parametrize("activation", [nn.Softplus(), nn.LogSigmoid(), nn.Threshold(0.1, 20.0)])
def test_a_module_without_a_rule_is_named_with_its_path_and_the_remedy(activation: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Sequential(nn.Identity(), activation), nn.Flatten())
    kind = type(activation).__name__
    remedy = rf"{kind} \(at '1\.1' .*EpsilonRules\(table=\{{\*\*EpsilonRules\(\)\.table, {kind}: your_rule\}}\),"
    with pytest.raises(MissingRuleError, match=remedy):
        LRP(network)


def test_a_function_without_a_rule_is_named() -> None:
    class Rooting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.special.expm1(self.conv(x).relu()).flatten(1)

    with pytest.raises(
        MissingRuleError, match=r'rule for "special_expm1" \(at .*\*\*EpsilonRules.*"special_expm1": your_rule'
    ):
        LRP(Rooting())


def test_negative_epsilon_is_refused() -> None:
    with pytest.raises(RelevanceError, match=r"epsilon is -0\.1"):
        EpsilonRules(-0.1)
