"""Which maps each kind of explanation gives, and what is said where there are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.inference import make_explainer
from cxr_isnet.networks import Backbone, NetworkConfig, grad_cam
from cxr_isnet.objectives import LungClassifier
from cxr_isnet.objectives.method import Explanation, Method
from cxr_isnet.objectives.methods import find_method
from cxr_isnet.relevance import LRP
from tests.examples.gelu_cnn import AttentionPool

PLAIN = find_method("cross_entropy")
IMAGES = torch.rand(2, 1, 8, 8)


def _convolutions(classes: int, image_size: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


WITH_RULES = Backbone("with_rules", _convolutions, has_relevance_rules=True)
WITH_FEATURES = Backbone("with_features", _convolutions, ("1",))
WITHOUT_RULES = Backbone("without_rules", _convolutions)
RULES, NO_RULES = (NetworkConfig(f"{__name__}.{name}") for name in ("WITH_RULES", "WITHOUT_RULES"))


def explained_by(explanation: Any) -> Method:
    """The plain classifier, explained in another way."""
    return replace(PLAIN, explanation=explanation)


def whole(network: nn.Module) -> Any:
    """An explanation of one's own: every pixel counts the logit."""
    return lambda images: (network(images), network(images)[:, :, None, None].expand(-1, -1, *images.shape[-2:]))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return _convolutions(3, 8, 0.0).eval()


def maps(network: nn.Module, method: Method, kind: Explanation | None = None, config: NetworkConfig = RULES) -> Tensor:
    """Maps of two images, which carry no graph and leave no gradients behind."""
    explainer = make_explainer(network, method, config, kind)
    assert explainer.explain is not None
    assert explainer.reason == ""
    logits, found = explainer.explain(IMAGES)
    torch.testing.assert_close(logits, network(IMAGES).detach())
    assert not logits.requires_grad
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    return found


def test_relevance_is_that_of_lrp_with_its_usual_rules(network: nn.Module) -> None:
    expected = LRP(network)(IMAGES)[1].image[:, :, 0].detach()

    assert torch.equal(maps(network, PLAIN), expected)


def test_the_input_gradient_of_a_linear_network_is_its_weights() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    found = maps(network, explained_by(Explanation.INPUT_GRADIENT), config=NO_RULES)

    torch.testing.assert_close(found, network[1].weight.detach().reshape(1, 3, 8, 8).expand(2, -1, -1, -1))


def test_grad_cam_is_of_the_last_layer_that_the_backbone_names(network: nn.Module) -> None:
    found = maps(network, explained_by(Explanation.GRAD_CAM), config=NetworkConfig(f"{__name__}.WITH_FEATURES"))

    assert torch.equal(found, grad_cam(network, "1", IMAGES)[1])


def test_attention_is_what_the_network_says_it_is() -> None:
    network = AttentionPool(3)

    found = maps(network, explained_by(Explanation.ATTENTION), config=NO_RULES)

    assert torch.equal(found, network.attention(IMAGES)[1])


def test_a_method_may_explain_in_its_own_way(network: nn.Module) -> None:
    found = maps(network, explained_by(whole))

    assert torch.equal(found, network(IMAGES)[:, :, None, None].expand(-1, -1, 8, 8))


@pytest.mark.parametrize("own", [Explanation.NONE, Explanation.LRP, whole])
def test_the_kind_that_is_asked_for_goes_before_the_methods_own(own: Any, network: nn.Module) -> None:
    asked = maps(network, explained_by(own), Explanation.INPUT_GRADIENT)

    assert torch.equal(asked, maps(network, explained_by(Explanation.INPUT_GRADIENT)))


@pytest.mark.parametrize(
    ("own", "asked", "config", "reason"),
    [
        (Explanation.NONE, None, RULES, "method 'cross_entropy' has none"),
        (Explanation.LRP, Explanation.NONE, RULES, "no explanation was asked for"),
        (
            Explanation.LRP,
            Explanation.GRAD_CAM,
            RULES,
            f"network '{RULES.name}' names no layer of its last feature maps",
        ),
        (Explanation.LRP, None, NO_RULES, f"network '{NO_RULES.name}' has no relevance rules"),
    ],
)
def test_where_there_are_no_maps_the_reason_is_given(
    own: Explanation, asked: Explanation | None, config: NetworkConfig, reason: str, network: nn.Module
) -> None:
    explainer = make_explainer(network, explained_by(own), config, asked)

    assert explainer.explain is None
    assert explainer.reason == reason


def test_a_network_whose_rules_turn_out_to_be_missing_is_not_explained_either() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softplus(), nn.Flatten(), nn.Linear(72, 3))

    explainer = make_explainer(network, PLAIN, RULES)

    assert explainer.explain is None
    assert explainer.reason.startswith("relevance cannot be computed: ")


def test_attention_of_a_network_that_has_none_is_an_error(network: nn.Module) -> None:
    with pytest.raises(InputError, match=r"network '.*WITH_RULES' has no attention maps: choose another explainer"):
        make_explainer(network, PLAIN, RULES, Explanation.ATTENTION)


def test_what_segments_first_is_explained_by_what_classifies_or_the_reason_is_reported() -> None:
    method = find_method("two_stage")
    without_rule = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softplus(), nn.Flatten(), nn.Linear(72, 3))
    predictors = {
        name: LungClassifier(network, nn.Conv2d(1, 1, 1), 8).eval()
        for name, network in {"relu": _convolutions(3, 8, 0.0), "softplus": without_rule}.items()
    }

    explained, unexplained = (make_explainer(predictor, method, RULES) for predictor in predictors.values())

    assert explained.explain is not None
    assert unexplained.explain is None
    assert unexplained.reason.startswith("relevance cannot be computed: ")
    whole_predictor = make_explainer(predictors["relu"], method, RULES, Explanation.LRP)
    assert whole_predictor.reason.startswith("relevance cannot be computed: ")
