"""Which rules, targets, layers and settings each method is made of; and how methods from elsewhere get theirs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.losses import BoundEstimator, ForegroundForm, HeatmapLossConfig, RelevanceBounds, heatmap_loss
from cxr_isnet.networks import Backbone, NetworkConfig
from cxr_isnet.objectives.isnet import ISNetOptions
from cxr_isnet.objectives.method import Explanation, Method
from cxr_isnet.objectives.methods import (
    METHODS,
    find_method,
    options_by_method,
    options_of,
    refuse_foreign_code,
    resolved_options,
)
from cxr_isnet.objectives.objective import Objective
from cxr_isnet.relevance import (
    LRP,
    AlphaBetaRules,
    AlphaBetaStart,
    EpsilonRules,
    per_class,
    selective,
    stochastic,
    sum_of_logits,
)
from tests.objective_maker import make_objective

LAYERS = ("3", "5")


def _convolutions(classes: int, image_size: int, dropout: float) -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))


CONVOLUTIONS = Backbone("convolutions", _convolutions, LAYERS, has_relevance_rules=True)

EPSILON = 0.2
LOSS = {"background": 2.0, "foreground": 0.5, "decay": 0.7, "activation": 3.0, "form": "hybrid", "layer_decay": 0.4}
OPTIONS = {"heatmap_weight": 0.3, "epsilon": EPSILON, "deep_supervision": True, "loss": LOSS}

ONE_SET = [EpsilonRules(epsilon=EPSILON)]
TWO_SETS = [AlphaBetaRules(epsilon=EPSILON, start=AlphaBetaStart.CONTRIBUTIONS), EpsilonRules(epsilon=EPSILON)]


def build(method: str, **options: Any) -> Objective:
    """The objective of three convolutions and three classes, in evaluation mode, its first weights always the same."""
    torch.manual_seed(3)
    return make_objective(method, NetworkConfig(f"{__name__}.CONVOLUTIONS"), 3, **options).eval()


@pytest.mark.parametrize(
    ("method", "rules", "target"),
    [
        ("isnet", ONE_SET, per_class),
        ("isnet_selective", ONE_SET, selective),
        ("isnet_stochastic", ONE_SET, stochastic()),
        ("isnet_dual", TWO_SETS, sum_of_logits),
    ],
)
def test_the_heatmap_loss_is_that_of_the_methods_maps_and_of_all_its_settings(
    method: str, rules: list[Any], target: Callable[[Tensor], Tensor], batch: dict[str, Tensor]
) -> None:
    objective = build(method, **OPTIONS)
    objective.measure(batch)
    objective.finish_estimation()
    torch.manual_seed(5)
    logits, relevance = LRP(objective.network, rules, layers=LAYERS, first_epsilon=EPSILON)(batch["image"], target)

    torch.manual_seed(5)
    terms = objective(batch)

    maps = {"image": relevance.image, **relevance.layers}
    pairs = zip(maps, objective.bounds.tolist(), strict=True)
    bounds = {name: [RelevanceBounds(*pair) for pair in found] for name, found in pairs}
    config = HeatmapLossConfig(2.0, 0.5, 0.7, 3.0, ForegroundForm.HYBRID, 0.4)
    expected = heatmap_loss(maps, batch["mask"], batch["has_mask"], bounds, config)
    assert [len(found) for found in bounds.values()] == [len(rules)] * 3
    torch.testing.assert_close(terms["heatmap"], expected.loss)
    torch.testing.assert_close(terms["background"], expected.background)
    torch.testing.assert_close(terms["foreground"], expected.foreground)
    classification = F.cross_entropy(logits, batch["label"])
    torch.testing.assert_close(terms["loss"], 0.7 * classification + 0.3 * expected.loss)


def test_bounds_are_estimated_from_the_methods_own_maps_layer_by_layer_and_rule_by_rule(
    batch: dict[str, Tensor],
) -> None:
    objective = build("isnet_dual", **OPTIONS)

    objective.measure(batch)
    found = objective.finish_estimation()

    lrp = LRP(objective.network, TWO_SETS, layers=LAYERS, first_epsilon=EPSILON)
    _, relevance = lrp(batch["image"], sum_of_logits)
    for name, maps in {"image": relevance.image, **relevance.layers}.items():
        for rule in (0, 1):
            estimator = BoundEstimator()
            estimator.update(maps[:, rule : rule + 1])
            assert found[f"{name}.{rule}.mean"] == pytest.approx(estimator.mean)
            assert found[f"{name}.{rule}.c2"] == pytest.approx(estimator.bounds().high)


def test_an_estimation_begins_anew_after_the_one_before(batch: dict[str, Tensor]) -> None:
    first, once = build("isnet"), build("isnet")
    other = {**batch, "image": batch["image"] ** 3}

    for objective, measured in ((first, (batch, other)), (once, (other,))):
        for part in measured:
            objective.measure(part)
            objective.finish_estimation()

    assert torch.equal(first.bounds, once.bounds)


def test_without_deep_supervision_only_the_image_has_maps() -> None:
    assert build("isnet", deep_supervision=False).bounds.shape == (1, 1, 2)


def test_bounds_are_estimated_after_as_many_epochs_as_configured() -> None:
    assert build("isnet", bound_estimation_epochs=3).bound_estimation_epochs == 3


def test_the_settings_of_an_isnet_that_names_none_are_the_documented_ones() -> None:
    assert find_method("isnet").parse_options({}) == ISNetOptions(
        heatmap_weight=0.5,
        loss=HeatmapLossConfig(1.0, 3.0, 0.97, 0.3, ForegroundForm.L2, 1.0),
        epsilon=1e-2,
        deep_supervision=True,
        bound_estimation_epochs=2,
        bounds=None,
    )


def test_every_isnet_needs_rules_and_masks_and_the_plain_classifier_needs_neither() -> None:
    needs = {method.name: (method.needs_relevance_rules, method.needs_masks) for method in METHODS}

    assert needs["cross_entropy"] == (False, False)
    assert {needs[name] for name in needs if name.startswith("isnet")} == {(True, True)}


PATH = "tests.examples.shifting.METHOD"

BARE = Backbone("bare", lambda classes, size, dropout: nn.Sequential(nn.Flatten(), nn.Linear(size**2, classes)))
PICKY = Backbone("picky", BARE.build, has_relevance_rules=True, smallest_size=32, size_multiple=16)


def test_a_method_from_elsewhere_predicts_and_trains_with_its_own_settings() -> None:
    options = options_by_method({"custom": {"by": 0.5, "factor": 3.0}})
    method = find_method(PATH)

    objective = method.objective(NetworkConfig(f"{__name__}.BARE"), 2, 32, options_of(options, method))

    assert (objective.network.by, objective.factor) == (0.5, 3.0)
    assert resolved_options(options, method) == {"custom": {"by": 0.5, "factor": 3.0}}


def test_each_built_in_method_has_the_settings_under_its_name() -> None:
    options = options_by_method({"isnet": {"heatmap_weight": 0.9}, "isnet_dual": {"epsilon": 0.5}})

    chosen = {method.name: options_of(options, method) for method in METHODS}

    assert (chosen["isnet"].heatmap_weight, chosen["isnet"].epsilon) == (0.9, 1e-2)
    assert (chosen["isnet_dual"].heatmap_weight, chosen["isnet_dual"].epsilon) == (0.5, 0.5)
    assert resolved_options(options, find_method("isnet"))["isnet"]["heatmap_weight"] == 0.9
    assert resolved_options(options, find_method("cross_entropy")) == {}


def test_a_network_without_rules_is_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Method, "build_predictor", lambda *_: pytest.fail("built"))
    method = find_method("isnet")

    with pytest.raises(InputError, match=r"'isnet' needs relevance rules, which network '.*BARE' does not have"):
        method.objective(NetworkConfig(f"{__name__}.BARE"), 2, 32, ISNetOptions())
    with pytest.raises(InputError, match=r"image\.size is 40; network 'picky' takes 32 pixels or more, a multiple of"):
        method.objective(NetworkConfig(f"{__name__}.PICKY"), 2, 40, ISNetOptions())


def test_a_network_without_rules_trains_with_the_plain_classifier() -> None:
    method = find_method("cross_entropy")

    objective = method.objective(NetworkConfig(f"{__name__}.BARE"), 2, 32, method.options())

    assert objective.network(torch.rand(3, 1, 32, 32)).shape == (3, 2)


def test_a_method_is_explained_by_relevance_unless_it_says_how() -> None:
    assert {find_method(name).explanation for name in ("cross_entropy", "isnet", PATH)} == {Explanation.LRP}


@pytest.mark.parametrize("spelling", ["not_here.METHOD", "not_here:METHOD"])
def test_code_that_nobody_asked_for_is_refused_unless_it_is_trusted(spelling: str) -> None:
    with pytest.raises(InputError, match=r"best\.pt: names the method 'not_here.METHOD', which is code outside"):
        refuse_foreign_code("method", spelling, "best.pt", trust=False)

    refuse_foreign_code("method", spelling, "best.pt", trust=True)
    refuse_foreign_code("method", "isnet", "best.pt", trust=False)


def test_code_that_is_loaded_already_needs_no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "not_here", ModuleType("not_here"))

    refuse_foreign_code("method", "not_here.METHOD", "best.pt", trust=False)


def test_the_name_of_before_is_taken_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="'densenet121' is now called 'cross_entropy'"):
        assert find_method("densenet121").name == "cross_entropy"
