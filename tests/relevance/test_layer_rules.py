"""Rules of single layers, where a table gives them, against explicit matrices; and which rule a layer gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import (
    EPSILON_TABLE,
    LRP,
    AlphaBetaRule,
    At,
    BoxRule,
    EpsilonAlpha2Beta1,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    EpsilonRule,
    EpsilonRules,
    FlatRule,
    GammaRule,
    LayerRule,
    RelevanceError,
    WSquareRule,
    linear_map,
)

from .conftest import check_gradient
from .networks import ConvNet, DenseNet, randomise, without_biases

EPSILON = 0.05


class Shared(nn.Module):
    """Inputs of both signs, one linear layer with a bias, logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer((x - 0.5).flatten(1))


def stabilised(z: Tensor) -> Tensor:
    return z + torch.where(z >= 0, EPSILON, -EPSILON)


def by_hand(rule: LayerRule, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Relevance (inputs,) of every output z in turn: (outputs, inputs), from loops over single contributions."""
    found = torch.zeros_like(weight)
    for k in range(len(weight)):
        z = weight[k] @ x + bias[k]

        def shared(contributions: Tensor, of_bias: Tensor, z: Tensor = z) -> Tensor:
            return contributions / stabilised(contributions.sum() + of_bias) * z

        products = weight[k] * x
        if isinstance(rule, EpsilonRule):
            found[k] = shared(products, bias[k])
        elif isinstance(rule, AlphaBetaRule):
            found[k] = rule.alpha * shared(products.clamp(min=0), bias[k].clamp(min=0))
            found[k] += rule.beta * shared(products.clamp(max=0), bias[k].clamp(max=0))
        elif isinstance(rule, GammaRule):
            like = (products.sign() == z.sign()).to(z.dtype)
            of_bias = bias[k] * (1 + rule.gamma * (bias[k].sign() == z.sign()))
            found[k] = shared(products * (1 + rule.gamma * like), of_bias)
    return found


RULES = [EpsilonRule(EPSILON), AlphaBetaRule(EPSILON), AlphaBetaRule(EPSILON, 2.0, -1.0), GammaRule(EPSILON, 0.4)]


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_by_single_contributions(rule: LayerRule) -> None:
    """Bach et al. 2015 (epsilon, alpha-beta); Montavon et al. 2019, for inputs and outputs of both signs (gamma)."""
    torch.manual_seed(3)
    network, images = Shared(), torch.rand(5, 1, 2, 2)
    lrp = LRP(network, EpsilonRules(0.0, table={**EPSILON_TABLE, "linear": rule}), image_range=None)
    found = lrp(images)[1].image.flatten(2)
    for image, maps in zip(images, found, strict=True):
        x = image.flatten()
        expected = by_hand(rule, x - 0.5, network.layer.weight, network.layer.bias)
        assert_close(maps, expected * x / (x - 0.5))  # the subtraction takes its share


class Mixed(nn.Module):
    """Every operation that has a weight, between inputs of both signs; batch norms behind some."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.same = nn.Conv2d(4, 4, 2, padding="same", groups=2)
        self.up = nn.ConvTranspose2d(4, 3, 2, 2)
        self.line, self.head = nn.Conv1d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.first(x)))
        x = torch.tanh(self.up(self.same(x)))
        x = F.silu(self.line(x.flatten(2)))
        return self.head(x.mean(2))


PRESETS: dict[str, Callable[[], EpsilonRules]] = {
    "EpsilonPlus": lambda: EpsilonPlus(0.01, 0.01),
    "EpsilonPlusFlat": lambda: EpsilonPlusFlat(0.01, 0.01),
    "EpsilonAlpha2Beta1": lambda: EpsilonAlpha2Beta1(0.01, 0.01),
    "EpsilonGammaBox": lambda: EpsilonGammaBox(0.0, 1.0, 0.01, stabilizer=0.01),
    "w^2": lambda: EpsilonRules(0.1, table={**EPSILON_TABLE, At(depth=0): WSquareRule()}),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_maps_have_the_gradient_that_finite_differences_find(
    preset: Callable[[], EpsilonRules], training: bool, constant_statistics: Callable[[], None]
) -> None:
    torch.manual_seed(0)
    check_gradient(LRP(randomise(Mixed()).train(training), preset()), torch.rand(2, 2, 6, 6), constant_statistics)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_relevance_is_conserved_without_biases_and_stabilisers(preset: Callable[[], EpsilonRules]) -> None:
    network, images = without_biases(randomise(ConvNet())), torch.rand(3, 2, 8, 8) + 0.1
    table = {
        key: type(rule)(**{**rule.__dict__, "epsilon": 0.0}) if hasattr(rule, "epsilon") else rule
        for key, rule in preset().table.items()
    }
    logits, relevance = LRP(network, EpsilonRules(0.0, table=table), image_range=None)(images)
    assert_close(relevance.image.sum((2, 3, 4)), logits)


def test_flat_and_w_square_by_explicit_windows() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 2, bias=True), nn.ReLU(), nn.Flatten())
    images = torch.rand(2, 2, 3, 3)
    maps = {}
    for rule in (FlatRule(0.0), WSquareRule(0.0)):
        table = {**EPSILON_TABLE, "conv2d": rule}
        maps[type(rule)] = LRP(network, EpsilonRules(0.0, table=table))(images, lambda z: torch.ones_like(z)[None])[1]
    outputs, weight, bias = network[:2](images), network[0].weight, network[0].bias
    flat, square = torch.zeros_like(images), torch.zeros_like(images)
    for row in range(2):
        for column in range(2):
            for k in range(3):
                received = outputs[:, k, row, column].reshape(-1, 1, 1, 1)
                window = (slice(None), slice(None), slice(row, row + 2), slice(column, column + 2))
                flat[window] += received / 8
                square[window] += received * weight[k] ** 2 / ((weight[k] ** 2).sum() + bias[k] ** 2)
    assert_close(maps[FlatRule].image[:, 0], flat)
    assert_close(maps[WSquareRule].image[:, 0], square)


# ---- which rule where


def marked(factor: float) -> Callable[..., tuple[Tensor]]:
    def rule(call: object, signal: Tensor) -> tuple[Tensor]:
        return (factor * linear_map(call, signal)[0],)  # type: ignore[arg-type,operator]

    return rule


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1, bias=False)
        self.stages = nn.Sequential(*(nn.Sequential(nn.Conv2d(2, 2, 1, bias=False)) for _ in range(11)))
        self.head = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("place", "layers"),
    [
        (At(), 13),
        (At(depth=0), 1),
        (At(depth=-1), 1),
        (At(depth=(1, 3)), 3),
        (At(depth=(-2, -1)), 2),
        (At(depth=(3, 100)), 10),
        (At("stages"), 11),
        (At("stages.1"), 1),
        (At("stages.1?"), 1),
        (At("stages.*"), 11),
        (At("stages", operations=("linear",)), 0),
        (At("head", depth=0), 0),
        (At("head"), 1),
    ],
)
def test_a_place_is_meant_by_path_depth_and_operation(place: At, layers: int) -> None:
    network, images = Deep(), torch.rand(2, 1, 3, 3)
    plain = LRP(network, EpsilonRules(0.0), image_range=None)(images)[1].image
    doubled = EpsilonRules(0.0, table={**EPSILON_TABLE, place: marked(2.0)})
    assert_close(LRP(network, doubled, image_range=None)(images)[1].image, plain * 2.0**layers)


def test_of_several_places_the_last_holds_and_a_place_goes_before_an_operation() -> None:
    network, images = Deep(), torch.rand(2, 1, 3, 3)
    plain = LRP(network, EpsilonRules(0.0), image_range=None)(images)[1].image
    table = {**EPSILON_TABLE, At("stages"): marked(2.0), At(depth=1): marked(3.0), "conv2d": marked(5.0)}
    found = LRP(network, EpsilonRules(0.0, table=table), image_range=None)(images)[1].image
    assert_close(found, plain * 2.0**10 * 3.0 * 5.0)


def test_a_place_that_the_network_does_not_have_is_reported() -> None:
    with pytest.raises(RelevanceError, match=r"At\('stage'\).*no module.*stages"):
        LRP(Deep(), EpsilonRules(table={**EPSILON_TABLE, At("stage"): GammaRule()}))


def test_a_rule_of_the_first_layer_elsewhere_is_reported() -> None:
    with pytest.raises(RelevanceError, match=r"FlatRule is a rule of the layer that reads the image, '0'.*'4'"):
        LRP(ConvNet(), EpsilonRules(table={**EPSILON_TABLE, "conv2d": FlatRule()}))


def test_a_table_keeps_its_own_first_layer_whatever_the_range() -> None:
    network, images = randomise(ConvNet()), torch.rand(2, 2, 6, 6)
    plus, flat = EpsilonPlus(), EpsilonPlusFlat()
    for rules in (plus, flat):
        assert_close(LRP(network, rules)(images)[1].image, LRP(network, rules, image_range=None)(images)[1].image)
    assert not torch.allclose(LRP(network, plus)(images)[1].image, LRP(network, flat)(images)[1].image)


def test_images_outside_a_tables_own_range_are_told() -> None:
    network = randomise(ConvNet())
    lrp = LRP(network, EpsilonGammaBox([-1.0, 0.0], [1.0, 2.0]))
    images = torch.stack([torch.rand(2, 6, 6) * 2 - 1, torch.rand(2, 6, 6) * 2], 1)
    lrp(images)
    with pytest.warns(UserWarning, match=r"outside image_range \(\[-1.0, 0.0\], \[1.0, 2.0\]\)"):
        lrp(images.flip(1))


def test_a_box_of_wrong_bounds_is_reported() -> None:
    with pytest.raises(RelevanceError, match=r"image_range is \(\[0, 1\], \[1, 1\]\); the second must be larger"):
        BoxRule([0, 1], [1, 1])


def test_a_batch_norm_behind_a_layer_is_part_of_it_and_one_before_it_is_not() -> None:
    """The same maps as of a network whose batch norms behind convolutions are merged into them beforehand."""
    network, images = randomise(DenseNet(0.0)), torch.rand(2, 2, 9, 9)
    merged = randomise(DenseNet(0.0))
    merged.load_state_dict(network.state_dict())
    merged.conv0 = torch.nn.utils.fuse_conv_bn_eval(merged.conv0, merged.norm0)
    merged.norm0 = nn.Identity()
    assert_close(LRP(merged, EpsilonPlus())(images)[1].image, LRP(network, EpsilonPlus())(images)[1].image)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GammaRule(gamma=-0.1),
        lambda: GammaRule(-0.1),
        lambda: EpsilonRule(float("nan")),
        lambda: AlphaBetaRule(-1.0),
        lambda: FlatRule(-1.0),
        lambda: WSquareRule(-1.0),
        lambda: BoxRule(epsilon=-1.0),
        lambda: EpsilonRules(-1.0),
        lambda: LRP(nn.Flatten(), first_epsilon=-1.0),
    ],
)
def test_a_setting_below_0_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(RelevanceError, match="must be 0 or more"):
        make()
