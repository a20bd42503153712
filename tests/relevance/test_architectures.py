"""Networks beyond ReLU CNNs, of the operations that common architectures are made of: followed in both modes, explained
with the derivative that the loss has, and by the rules that the papers give."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import EfficientNetBN, ViT
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import EPSILON_TABLE, LRP, At, EpsilonRules, RelevanceError, gate, sum_of_logits

from .conftest import check_gradient


class SqueezeAndExcite(nn.Module):
    """Inverted bottleneck with swish, depthwise convolution and a gate for each channel, as in EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.norm, self.act = nn.BatchNorm2d(6), nn.SiLU(inplace=True)
        self.reduce, self.excite = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.project, self.head = nn.Conv2d(6, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.depthwise(self.act(self.expand(x)))))
        scale = self.excite(self.act(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        x = self.project(x * torch.sigmoid(scale))
        return self.head(F.hardswish(x).mean((2, 3)))


class ConvNeXt(nn.Module):
    """Depthwise convolution, layer norm over channels that come last, GELU, layer scale and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(1, 6, 2, 2), nn.Conv2d(6, 6, 3, padding="same", groups=6)
        self.norm, self.wide, self.narrow = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.scale, self.last, self.head = nn.Parameter(torch.rand(6)), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.narrow(F.gelu(self.wide(self.norm(self.mix(x).permute(0, 2, 3, 1)))))
        x = x + (self.scale * y).permute(0, 3, 1, 2)
        return self.head(self.last(x.mean([-2, -1])))


class Transformer(nn.Module):
    """Class token, positions, attention written out or fused, and a perceptron, as in ViT."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.patches, self.token = nn.Conv2d(1, 8, 4, 4), nn.Parameter(torch.rand(1, 1, 8))
        self.position, self.first = nn.Parameter(torch.rand(1, 5, 8)), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.second, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        q, k, v = self.qkv(self.first(x)).reshape(len(x), 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q @ k.transpose(-2, -1)) / math.sqrt(4)).softmax(dim=-1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(len(x), 5, 8))
        x = x + self.narrow(F.gelu(self.wide(self.second(x))))
        return self.head(x[:, 0])


class Windows(nn.Module):
    """Shifted windows with a bias of relative positions and a mask, and merged patches, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.qkv = nn.Conv2d(1, 4, 2, 2), nn.Linear(4, 12)
        self.bias = nn.Parameter(torch.rand(1, 4, 4))
        self.norm, self.merge, self.head = nn.LayerNorm(16), nn.Linear(16, 8, bias=False), nn.Linear(8, 2)
        self.register_buffer("mask", torch.where(torch.rand(4, 4, 4) > 0.7, -100.0, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.patches(x).permute(0, 2, 3, 1), (-1, -1), (1, 2))
        b, h, w, c = x.shape
        windows = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(windows).chunk(3, dim=-1)
        weights = (q * 0.5) @ k.transpose(-2, -1) + self.bias
        weights = (weights.view(b, 4, 4, 4) + self.mask).view(-1, 4, 4).softmax(-1)
        y = (weights @ v).view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        x = torch.roll(x + y, (1, 1), (1, 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.head(F.gelu(self.merge(self.norm(x))).mean((1, 2)))


class UNet(nn.Module):
    """Transposed and interpolated ways up, skips, an attention gate, group and instance norms, ReLUs of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.up, self.one, self.other = (
            nn.ConvTranspose2d(6, 4, 2, 2),
            nn.GroupNorm(2, 4),
            nn.InstanceNorm2d(6, affine=True),
        )
        self.gate, self.psi, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1), nn.Linear(8, 2)
        self.slope = nn.PReLU(6)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.leaky_relu(self.one(self.down(x)), 0.1)
        deep = self.slope(self.other(self.deep(skip)))
        up = F.elu(self.up(deep))
        wide = F.interpolate(up, size=skip.shape[2:], mode="bilinear", align_corners=False)
        attended = skip * torch.sigmoid(self.psi(F.relu(self.gate(wide) + skip)))
        return self.head(torch.cat((attended, F.relu6(wide)), 1).amax((2, 3)))


class OwnNorm(nn.Module):
    """A layer norm over the channels written out, and a root mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        centred = x - x.mean(1, keepdim=True)
        x = F.relu(self.second(centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()))
        return self.head((x * torch.rsqrt(x.square().mean(1, keepdim=True) + 0.1)).mean((2, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "squeeze and excite": SqueezeAndExcite,
    "convnext": ConvNeXt,
    "transformer": lambda: Transformer(fused=False),
    "fused transformer": lambda: Transformer(fused=True),
    "torch's transformer layer": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 4, 4),
        nn.Flatten(2),
        nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", batch_first=True),
        nn.Flatten(),
        nn.Linear(32, 2),
    ),
    "windows": Windows,
    "u-net": UNet,
    "own norms": OwnNorm,
}


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(3, 1, 8, 8)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_logits_are_the_networks_and_the_gradient_is_that_of_the_maps(
    make: Callable[[], nn.Module], training: bool, pictures: Tensor, constant_statistics: Callable[[], None]
) -> None:
    network = make().train(training)
    plain, lrp = copy.deepcopy(network), LRP(network, EpsilonRules(0.1), image_range=None)
    logits, relevance = lrp(pictures)
    assert torch.equal(logits, plain(pictures))
    assert relevance.image.any()
    check_gradient(lrp, pictures, constant_statistics)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_maps_do_not_depend_on_the_rest_of_the_batch_nor_on_the_other_maps(
    make: Callable[[], nn.Module], pictures: Tensor
) -> None:
    lrp = LRP(make().eval(), image_range=None)
    together = lrp(pictures)[1].image
    for i in range(3):
        assert_close(lrp(pictures[i : i + 1])[1].image, together[i : i + 1], rtol=1e-9, atol=1e-13)
    assert_close(lrp(pictures, sum_of_logits)[1].image, together.sum(1, keepdim=True), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    "key", [None, "softmax", At(operations=("softmax",))], ids=["AttnLRP", "CP-LRP", "CP-LRP, by place"]
)
def test_fused_attention_is_attention_written_out(pictures: Tensor, key: Hashable) -> None:
    torch.manual_seed(1)
    written = Transformer(fused=False).eval()
    fused = Transformer(fused=True).eval()
    fused.load_state_dict(written.state_dict())
    rules = EpsilonRules(table=EPSILON_TABLE if key is None else {**EPSILON_TABLE, key: gate})
    maps = [LRP(network, rules, image_range=None)(pictures)[1].image for network in (written, fused)]
    assert_close(maps[0], maps[1], rtol=1e-9, atol=1e-13)


def test_a_rule_of_softmaxes_that_fused_attention_would_leave_out_is_refused() -> None:
    rules = EpsilonRules(table={**EPSILON_TABLE, "softmax": lambda call, signal: (signal,)})
    LRP(Transformer(fused=False), rules)
    with pytest.raises(RelevanceError, match='give "scaled_dot_product_attention" a rule too'):
        LRP(Transformer(fused=True), rules)


# ---- the rules, by their papers


class Of(nn.Module):
    """A function of (B, 2, n), as logits."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x).flatten(1)


def relevance_of(function: Callable[[Tensor], Tensor], x: Tensor, **table: object) -> Tensor:
    """Relevance (B, 2, n) of the sum of the outputs, at epsilon 0."""
    rules = EpsilonRules(0.0, table={**EPSILON_TABLE, **table})  # type: ignore[dict-item]
    return LRP(Of(function), rules, image_range=None)(x, sum_of_logits)[1].image[:, 0]


@pytest.mark.parametrize(
    "function", [F.gelu, F.silu, F.elu, F.hardswish, torch.tanh, F.leaky_relu, F.mish, torch.square]
)
def test_an_activation_keeps_relevance_where_it_is(function: Callable[[Tensor], Tensor]) -> None:
    """R_in = R_out: the identity rule of element-wise functions (AttnLRP, Achtibat et al. 2024, section 3.3)."""
    x = torch.randn(2, 2, 5)
    assert_close(relevance_of(function, x), function(x))


def test_a_product_is_shared_out_in_halves_and_a_gate_takes_nothing() -> None:
    """AttnLRP, Achtibat et al. 2024, proposition 3.3; a sigmoid gate counts as a constant."""
    x = torch.randn(2, 2, 5)
    halves = relevance_of(lambda v: v[:, 0] * v[:, 1], x)
    assert_close(halves, (x[:, :1] * x[:, 1:] / 2).expand(-1, 2, -1))
    gated = relevance_of(lambda v: v[:, 0] * torch.sigmoid(v[:, 1]), x)
    assert_close(gated, torch.stack([x[:, 0] * x[:, 1].sigmoid(), torch.zeros(2, 5)], 1))
    assert_close(relevance_of(lambda v: v * torch.sigmoid(v), x), F.silu(x))


def test_softmax_is_deep_taylor_at_the_input() -> None:
    """R_i = x_i (R_i - s_i sum_j R_j), R the relevance of s (AttnLRP, Achtibat et al. 2024, proposition 3.1)."""
    x, weight = torch.randn(2, 2, 5), torch.randn(5)
    s = x.softmax(-1)
    received = s * weight
    assert_close(relevance_of(lambda v: v.softmax(-1) * weight, x), x * (received - s * received.sum(-1, keepdim=True)))
    assert not relevance_of(lambda v: v.softmax(-1) * weight + v * 0.0, x, softmax=gate).any()


def test_a_layer_norm_holds_its_deviation_constant() -> None:
    """LN rule of Ali et al., ICML 2022: y = (x - mean) / c."""
    x, weight = torch.randn(2, 2, 5), torch.randn(5)
    deviation = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    found = relevance_of(lambda v: F.layer_norm(v, (5,)) * weight, x)
    assert_close(found, x * (weight - weight.mean()) / deviation)


# ---- networks of MONAI


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: EfficientNetBN("efficientnet-b0", False, False, 2, 1, 2), id="efficientnet-b0"),
        pytest.param(
            lambda: ViT(1, (32, 32), (8, 8), 24, 48, 2, 3, classification=True, num_classes=2, spatial_dims=2), id="vit"
        ),
    ],
)
def test_networks_of_monai(make: Callable[[], nn.Module], training: bool) -> None:
    network, images = make().train(training), torch.rand(2, 1, 32, 32)
    plain = copy.deepcopy(network)
    torch.manual_seed(2)
    expected = plain(images)
    torch.manual_seed(2)
    logits, relevance = LRP(network, image_range=None)(images)
    assert torch.equal(logits, expected if isinstance(expected, Tensor) else expected[0])
    relevance.image.square().mean().backward()
    assert relevance.image.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
