"""The record of a forward pass: whatever the network does is followed or refused, and its logits are its own."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import EPSILON_TABLE, LRP, AlphaBetaRules, Call, EpsilonRules, RelevanceError, gate

from .networks import ConvNet, DenseNet, randomise
from .test_epsilon import gradient_times_input


class Net(nn.Module):
    """A network with `body` between its first convolution and its last linear layer."""

    def __init__(self, body: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.act, self.w = nn.ReLU(inplace=True), nn.Parameter(torch.rand(4, 1, 1))
        self.body = body

    def forward(self, x: Tensor) -> Any:
        y = self.body(self, self.first(x))
        return y if not isinstance(y, Tensor) or y.dim() == 2 else self.head(y.mean((2, 3)))


class Rectify(torch.autograd.Function):
    """A function with a derivative of its own, as a memory-saving activation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return x * (x > 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * (ctx.saved_tensors[0] > 0)


def in_place_sum(net: Net, x: Tensor) -> Tensor:
    y = net.second(F.relu(x))
    read_before = F.relu(y)
    y += x
    return read_before + F.relu(y)


def in_place_relu(net: Net, x: Tensor) -> Tensor:
    before = x + 1.0
    return F.relu(x, inplace=True) + before + x


def over_columns(net: Net, x: Tensor) -> Tensor:
    return F.relu(net.norm(F.linear(x, torch.ones(4, x.shape[3]))))


def writes_into_a_constant(net: Net, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y.copy_(F.relu(x))
    return F.relu(y.add_(net.second(x)))


def buffer_read_before_it_changes(net: Net, x: Tensor) -> Tensor:
    y = F.relu(x + net.norm.running_var.view(4, 1, 1))
    net.norm.running_var.mul_(0.5).add_(0.1)
    return F.relu(y - net.norm.running_var.view(4, 1, 1))


def buffer_of_features(net: Net, x: Tensor) -> Tensor:
    net.norm.running_mean.lerp_(x.detach().mean((0, 2, 3)), 0.1)
    return F.relu(net.second(x))


def attention_with_dropout(net: Net, x: Tensor) -> Tensor:
    t = F.adaptive_avg_pool2d(x, 3).flatten(2)
    y = F.scaled_dot_product_attention(t, 2 * t, t + 1, dropout_p=0.3 if net.training else 0.0)
    return net.head(y.mean(2))


def attention_of_a_learned_query(net: Net, x: Tensor) -> Tensor:
    t = F.adaptive_avg_pool2d(x, 3).flatten(2)
    query = net.w.view(1, 4, 1).expand(len(x), 4, 9)
    return net.head(F.scaled_dot_product_attention(query, t, value=t).mean(2))


FOLLOWED = {
    "writes into a constant": writes_into_a_constant,
    "buffer that is read before it changes": buffer_read_before_it_changes,
    "buffer of features": buffer_of_features,
    "another thing in training": lambda net, x: F.relu(x) * 2 if net.training else F.relu(net.second(F.relu(x))),
    "in-place sum of a tensor that is read before and after": in_place_sum,
    "in-place relu of a tensor that is read before and after": in_place_relu,
    "autograd function": lambda net, x: Rectify.apply(x),
    "dropped paths": lambda net, x: F.relu(x) * (x.new_empty(3, 1, 1, 1).bernoulli_(0.5) if net.training else 1.0),
    "paths dropped by Python": lambda net, x: F.relu(x if net.training and random.random() < 0.5 else net.second(x)),
    "functional dropout": lambda net, x: F.dropout(F.relu(x), 0.5, net.training),
    "hidden states beside the logits": lambda net, x: (net.head(F.relu(x).mean((2, 3))), [x]),
    "linear layer over columns before a batch norm": lambda net, x: net.norm(
        F.linear(x, torch.ones(4, x.shape[3]))
    ).relu(),
    "reflected padding": lambda net, x: F.relu(F.pad(x, (1, 1, 1, 1), mode="reflect")),
    "the shape of another tensor": lambda net, x: F.relu(x.flatten(1).reshape_as(x)),
    "multiply and add": lambda net, x: F.relu(torch.addcmul(x, net.norm.weight.view(4, 1, 1), x, value=0.5)),
    "product in a sum": lambda net, x: F.relu(torch.addcmul(net.w, F.relu(x), net.w)),
    "sorted": lambda net, x: F.relu(x).flatten(2).sort(-1).values[..., 8:].unflatten(2, (-1, 4)),
    "smooth maximum": lambda net, x: net.head(torch.logsumexp(x.flatten(2), 2)),
    "interpolated": lambda net, x: torch.lerp(F.relu(x), net.second(x), 0.3),
    "shared in-place activation": lambda net, x: net.act(net.second(net.act(net.second(x)))),
    "mask": lambda net, x: x.masked_fill(x < 0, 0.0) + torch.where(x > 0, x, 0.1 * x) + x * (x > 0),
    "recomputed": lambda net, x: torch.utils.checkpoint.checkpoint(
        lambda v: F.relu(net.second(v)), x, use_reentrant=False
    ),
    "pools by the image's own size": lambda net, x: net.head(F.avg_pool2d(F.relu(x), x.size()[2:]).flatten(1)),
    "dropped paths, in place": lambda net, x: F.relu(
        x + (net.second(x).mul_(torch.rand(3, 1, 1, 1).floor_().add_(0.5)) if net.training else net.second(x))
    ),
    "weight made of weights": lambda net, x: F.conv2d(
        F.relu(x), net.second.weight - net.second.weight.mean((1, 2, 3), True)
    ),
}


NOT_PIECEWISE_LINEAR = {
    "attention with dropout": attention_with_dropout,
    "attention of a learned query": attention_of_a_learned_query,
    "a gate of both halves": lambda net, x: F.glu(torch.cat([F.relu(x), net.second(x)], 1), 1),
    "sampled where the image says": lambda net, x: F.grid_sample(
        F.relu(x), net.second(x)[:, :2].permute(0, 2, 3, 1), align_corners=False
    ),
    "interpolated as the image says": lambda net, x: torch.lerp(F.relu(x), net.second(x), x.sigmoid()),
    "bilinear": lambda net, x: net.head(
        F.bilinear(x.mean((2, 3)), x.amax((2, 3)), net.second.weight.flatten(2)[..., :4])
    ),
}


def alike(net: nn.Module) -> None:
    """Sets what is drawn at random."""
    random.seed(0)
    torch.manual_seed(3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("body", FOLLOWED.values(), ids=FOLLOWED)
def test_logits_buffers_and_gradients_are_those_of_the_network_and_maps_are_right(
    body: Callable[[Net, Tensor], Tensor], training: bool
) -> None:
    images = torch.rand(3, 1, 8, 8)
    network = randomise(Net(body)).train(training)
    plain, before = copy.deepcopy(network), copy.deepcopy(network.state_dict())
    lrp = LRP(network, EpsilonRules(0.0), image_range=None)
    alike(plain)
    expected = plain(images)
    expected = expected if isinstance(expected, Tensor) else expected[0]
    alike(network)
    logits, relevance = lrp(images)
    assert torch.equal(logits, expected)
    for one, other in zip(network.buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other)

    def explained(x: Tensor) -> Tensor:
        plain.load_state_dict(before)
        alike(plain)
        found = plain(x)
        return found if isinstance(found, Tensor) else found[0]

    if int(plain.norm.num_batches_tracked) == 0:  # in training its statistics are constants of the map alone
        assert_close(relevance.image.detach(), gradient_times_input(explained, images))  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("body", NOT_PIECEWISE_LINEAR.values(), ids=NOT_PIECEWISE_LINEAR)
def test_logits_are_those_of_the_network(body: Callable[[Net, Tensor], Tensor], training: bool) -> None:
    images = torch.rand(3, 1, 8, 8)
    network = Net(body).train(training)
    lrp = LRP(network, image_range=None)
    alike(network)
    expected = network(images)
    alike(network)
    logits, relevance = lrp(images)
    assert torch.equal(logits, expected)
    assert relevance.image.any()


@pytest.mark.parametrize(
    ("gated", "weight"),
    [
        (lambda v, w: F.glu(v, 1), lambda v: v[:, 1:].sigmoid()),
        (lambda v, w: torch.lerp(v[:, :1], w, v[:, 1:]), lambda v: 1 - v[:, 1:]),
        (lambda v, w: F.grid_sample(v[:, :1], v[:, 1:].expand(-1, 2, -1, -1).permute(0, 2, 3, 1)), None),
    ],
    ids=["glu", "lerp", "grid_sample"],
)
def test_what_scales_or_samples_counts_as_a_constant(
    gated: Callable[[Tensor, Tensor], Tensor], weight: Callable[[Tensor], Tensor] | None
) -> None:
    """All relevance lies at the values, none at the gate: AttnLRP's and LRP's rule of gates (Arras et al. 2019)."""

    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return gated(x, torch.zeros(len(x), 1, 3, 3)).flatten(1)

    images = torch.rand(2, 2, 3, 3)
    logits, relevance = LRP(Gated(), EpsilonRules(0.0), image_range=None)(images)
    assert not relevance.image[:, :, 1].any()
    assert_close(relevance.image.sum((2, 3, 4)), logits)
    if weight is not None:
        assert_close(relevance.image.sum(1)[:, :1], images[:, :1] * weight(images))


WITHOUT_SECOND_DERIVATIVE = ["sampled where the image says"] if torch.__version__ < "2.13" else []
"""torch 2.11 says of grid_sample: derivative for aten::grid_sampler_2d_backward is not implemented."""


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        n
        for n in (*FOLLOWED, *NOT_PIECEWISE_LINEAR)
        if "Python" not in n and "linear" not in n and n not in WITHOUT_SECOND_DERIVATIVE
    ],
)
def test_gradient_by_the_weights(name: str, training: bool) -> None:
    images = torch.rand(3, 1, 6, 6)
    body = {**FOLLOWED, **NOT_PIECEWISE_LINEAR}[name]
    lrp = LRP(randomise(Net(body)).train(training), EpsilonRules(0.05))
    buffers = dict(lrp.named_buffers())
    names = [n for n, p in lrp.named_parameters()]

    def explain(*values: Tensor) -> Tensor:
        alike(lrp)
        state = dict(zip(names, values, strict=True)) | {n: b.clone() for n, b in buffers.items()}
        return torch.func.functional_call(lrp, state, (images,))[1].image

    assert torch.autograd.gradcheck(explain, tuple(lrp.parameters()), fast_mode=True, atol=1e-6)


def writes(net: Net, x: Tensor) -> Tensor:
    y = F.relu(x)
    y[:, 0] = 0.0
    return y


def writes_behind_a_view(net: Net, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :2].add_(F.relu(x[:, :2]))
    return y + x


def changes_a_view(net: Net, x: Tensor) -> Tensor:
    x.view(-1).relu_()
    return x


REFUSED = {
    "must not branch on the data.*__bool__": lambda net, x: x if x.sum() > 0 else F.relu(x),
    "__float__": lambda net, x: F.relu(x) * float(x.mean()),
    "item": lambda net, x: F.relu(x) * x.mean().item(),
    "writes into a part of a tensor": writes,
    "from 'add' \\(add\\) on.*changes a tensor behind them": writes_behind_a_view,
    "view of.*Do not work in place": changes_a_view,
    "returned a tuple of.*auxiliary": lambda net, x: (net.head(x.mean((2, 3))), net.head(F.relu(x).mean((2, 3)))),
    "ends in a gate": lambda net, x: net.head(F.relu(x).mean((2, 3))).sigmoid(),
    'rule for "detach"': lambda net, x: F.relu(x).detach() + x,
    'rule for "exp"': lambda net, x: x.exp(),
    "reduces over the images": lambda net, x: F.relu(x) - x.mean(0),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_followed_is_refused_at_construction(message: str, training: bool) -> None:
    with pytest.raises(RelevanceError, match=message):
        LRP(Net(REFUSED[message]).train(training))


def test_a_parallel_network_is_refused() -> None:
    with pytest.raises(RelevanceError, match=r"make it DataParallel\(LRP\(network\)\)"):
        LRP(nn.DataParallel(randomise(ConvNet())))


def test_a_rule_that_does_not_fit_an_operation_names_it_and_the_way_out() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(2, 1, 4, 4).scatter(2, torch.zeros(2, 1, 2, 4, dtype=torch.int64), x).flatten(1)

    with pytest.raises(
        RelevanceError, match=r"rule of \"scatter\" does not fit its use at '0'.*give the module a rule"
    ):
        LRP(nn.Sequential(Odd()), image_range=None)


def test_what_calculates_behind_torch_functions_is_refused() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 3)
            self.rest = torch.jit.script(nn.Sequential(nn.ReLU(), nn.Flatten()))

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.first(x))

    with pytest.raises(RelevanceError, match=r"last of these was at 'first' \(conv2d\).*the scripted 'rest'"):
        LRP(Scripted())


def test_what_is_refused_in_training_only_is_refused_there() -> None:
    body = lambda net, x: (net.head(x.mean((2, 3))),) * 2 if net.training else F.relu(x)  # noqa: E731
    lrp = LRP(Net(body).eval())
    lrp(torch.rand(2, 1, 8, 8))
    with pytest.raises(RelevanceError, match="auxiliary"):
        lrp.train()(torch.rand(2, 1, 8, 8))


def test_a_replaced_module_takes_part(images: Tensor) -> None:
    network = randomise(ConvNet())
    lrp = LRP(network)
    lrp(images)
    network[8] = nn.Linear(3, 5)
    network[5] = nn.Identity()
    network[1] = nn.SyncBatchNorm.convert_sync_batchnorm(network[1]).eval()
    logits, relevance = lrp(images)
    assert torch.equal(logits, network(images))
    assert_close(relevance.image, LRP(network)(images)[1].image)
    assert relevance.image.shape[1] == 5


def test_hooks_are_honoured(images: Tensor) -> None:
    network = randomise(ConvNet())
    lrp = LRP(network, EpsilonRules(0.0), image_range=None)
    network[5].register_forward_hook(lambda module, args, output: 2 * output)
    network[3].register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
    logits, relevance = lrp(images)
    assert torch.equal(logits, network(images))
    assert_close(relevance.image.detach(), gradient_times_input(network, images))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm])
def test_reparametrised_weights(norm: Callable[[nn.Module], nn.Module], training: bool, images: Tensor) -> None:
    network = nn.Sequential(norm(nn.Conv2d(2, 4, 3)), nn.ReLU(), nn.Flatten(), norm(nn.Linear(168, 2))).train(training)
    lrp, plain = LRP(network, EpsilonRules(0.0), image_range=None), copy.deepcopy(network)
    logits, relevance = lrp(images)
    assert torch.equal(logits, plain(images))
    relevance.image.square().sum().backward()
    assert all(p.grad is not None for name, p in network.named_parameters() if "bias" not in name)
    assert_close(lrp.eval()(images)[1].image.detach(), gradient_times_input(network, images))


def test_a_copy_and_a_pickle_explain_alike(images: Tensor) -> None:
    lrp = LRP(randomise(DenseNet()), [AlphaBetaRules(), EpsilonRules()], layers=["pool0"])
    expected = lrp(images)[1]
    for other in (copy.deepcopy(lrp), pickle.loads(pickle.dumps(lrp))):
        assert torch.equal(other(images)[1].image, expected.image)
        assert torch.equal(other(images)[1].layers["pool0"], expected.layers["pool0"])


def test_construction_and_explanation_leave_the_network_as_it_is(images: Tensor) -> None:
    network = randomise(DenseNet()).train()
    before, drawn = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    LRP(network, layers=["pool0"])
    assert torch.equal(torch.random.get_rng_state(), drawn)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_transforms_of_torch_func(images: Tensor) -> None:
    network = randomise(ConvNet())
    lrp = LRP(network)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(lrp, parameters, (x,))[1].image.square().sum()

    parameters = dict(lrp.named_parameters())
    found = torch.func.grad(loss)(parameters, images)
    expected = torch.autograd.grad(loss(parameters, images), list(parameters.values()), materialize_grads=True)
    for one, other in zip(found.values(), expected, strict=True):
        assert_close(one, other)
    maps = torch.func.vmap(lambda x: lrp(x[None])[1].image[0])(images)
    assert_close(maps, lrp(images)[1].image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_networks_are_explained_in_float32(dtype: torch.dtype, images: Tensor) -> None:
    network = randomise(DenseNet()).to(dtype)
    logits, relevance = LRP(network, [AlphaBetaRules(), EpsilonRules()])(images.to(dtype))
    assert torch.equal(logits, network(images.to(dtype)))
    assert relevance.image.dtype == torch.float32
    assert relevance.image.isfinite().all()


@pytest.mark.parametrize("inside", [False, True])
def test_autocast_of_the_whole_network_or_of_a_part(inside: bool) -> None:
    def body(net: Net, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=inside or torch.is_autocast_enabled("cpu")):
            y = net.second(F.relu(x))
        return F.relu(y.float())

    network, images = Net(body).float().eval(), torch.rand(3, 1, 8, 8, dtype=torch.float32)
    lrp = LRP(network)
    with torch.autocast("cpu", torch.bfloat16, enabled=not inside):
        expected = network(images)
        logits, relevance = lrp(images)
    assert torch.equal(logits, expected)
    assert relevance.image.dtype == torch.float32
    relevance.image.square().sum().backward()
    assert network.second.weight.grad.isfinite().all()


def test_a_network_without_numbers_has_maps_without_numbers() -> None:
    with torch.device("meta"):
        network = ConvNet()
    relevance = LRP(network)(torch.empty(2, 2, 9, 8, device="meta"))[1]
    assert relevance.image.shape == (2, 3, 2, 9, 8)


def test_a_batch_without_images_is_refused(images: Tensor) -> None:
    with pytest.raises(RelevanceError, match="no images"):
        LRP(randomise(ConvNet()))(images[:0])


def test_images_out_of_range_are_told_once(images: Tensor) -> None:
    lrp = LRP(randomise(ConvNet()))
    with pytest.warns(UserWarning, match=r"outside image_range \(0.0, 1.0\).*image_range="):
        lrp(images * 255)
    lrp(images * 255)


def test_a_layers_map_needs_no_rules_below_it(images: Tensor) -> None:
    below = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Softplus())
    above = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(126, 2))
    network = nn.Sequential(below, *above)
    lrp = LRP(network, EpsilonRules(0.1), layers=["0"], to_image=False)
    logits, relevance = lrp(images)
    assert torch.equal(logits, network(images))
    assert relevance.image.shape == (3, 2, 0, 9, 8)
    expected = LRP(above, EpsilonRules(0.1), image_range=None)(below(images))[1].image
    assert_close(relevance.layers["0"], expected)
    with pytest.raises(RelevanceError, match="no relevance rule for Softplus"):
        LRP(network, EpsilonRules(0.1), layers=["0"])(images)
    with pytest.raises(RelevanceError, match="name layers"):
        LRP(network, to_image=False)


# ---- rules of one's own


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda call, signal: signal, "a Tensor; needed: a tuple with one signal"),
        (lambda call, signal: (signal, signal), "2 values"),
        (lambda call, signal: (signal[:, :1],), "signal of shape"),
    ],
)
def test_a_wrong_return_of_a_rule_is_told_in_words(returned: Any, message: str) -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.exp()

    network = nn.Sequential(nn.Conv2d(1, 4, 3), Own(), nn.Flatten())
    with pytest.raises(RelevanceError, match=message):
        LRP(network, EpsilonRules(table={**EPSILON_TABLE, Own: returned}))


def test_a_rule_by_the_name_of_an_operation() -> None:
    def halved(call: Call, signal: Tensor) -> tuple[Tensor]:
        return (signal / 2,)

    network, x = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Flatten()), torch.rand(2, 1, 5, 5)
    whole = LRP(
        network, EpsilonRules(table={**EPSILON_TABLE, "softplus": lambda call, signal: (signal,)}), image_range=None
    )
    half = LRP(network, EpsilonRules(table={**EPSILON_TABLE, "softplus": halved}), image_range=None)
    assert_close(half(x)[1].image, whole(x)[1].image / 2)
    with pytest.raises(RelevanceError, match="no relevance reaches the image"):
        LRP(network, EpsilonRules(table={**EPSILON_TABLE, "softplus": gate}))
