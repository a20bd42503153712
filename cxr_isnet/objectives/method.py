"""What a method is: an objective, its default network, how it predicts and how it is explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import Tensor, nn

from cxr_isnet.config import parse_settings, spell_by_value
from cxr_isnet.errors import InputError
from cxr_isnet.networks import BACKBONES, Backbone, NetworkConfig, build_network, find_backbone
from cxr_isnet.objectives.objective import Objective
from cxr_isnet.relevance import RelevanceError

Explain = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images (B, 1, H, W) to logits (B, classes) and maps (B, classes, H, W)."""


class Explanation(StrEnum):
    """How a prediction is explained by a map per class."""

    LRP = "lrp"
    """Layer-wise relevance propagation; the network needs relevance rules."""
    INPUT_GRADIENT = "input_gradient"
    """Gradient of the logit with respect to the pixels; any differentiable network."""
    GRAD_CAM = "grad_cam"
    """Feature maps of the last convolutional layer, weighted by the gradient; the backbone names that layer."""
    ATTENTION = "attention"
    """The maps that the network attends by: it has a method `attention(images)` -> logits, maps."""
    NONE = "none"
    """No maps."""


spell_by_value(Explanation)


def _network_itself(network: nn.Module, options: Any) -> nn.Module:
    return network


@dataclass(frozen=True)
class Method:
    """One model of a study.

    Attributes:
        name: As given on the command line.
        about: What it is, in a line.
        options: Dataclass of its settings, all with defaults.
        build: (predictor, its backbone, options) -> objective, whose `network` is the predictor.
        network: Name of the default backbone.
        network_class: Class that the backbone's network must have; any by default.
        predictor: How it predicts: (backbone's network, options) -> module from images (B, 1, H, W) to logits (B,
            classes), trained and stored as a whole. The network itself by default; a method that segments the lungs
            first wraps it.
        explanation: How it is explained: a kind, or (predictor) -> function as of `Explain`.
        needs_relevance_rules: It cannot train a backbone without relevance rules.
        needs_feature_maps: It cannot train a backbone that does not name the layer of its last feature maps.
        needs_masks: It cannot train without images that have a lung mask.
        frozen: The module of its predictor that is not trained, whose weights a training takes from where the option
            of that name says: `segmenter` (`options` are `SegmenterOptions`) or `encoder`; "" for none.

    A file `my_method.py` with `METHOD = Method("mine", ...)` is used from a config as `method: my_method.METHOD`.
    """

    name: str
    about: str
    options: type[Any]
    build: Callable[[nn.Module, Backbone, Any], Objective]
    network: str = "densenet121"
    network_class: type[nn.Module] = nn.Module
    predictor: Callable[[nn.Module, Any], nn.Module] = _network_itself
    explanation: Explanation | Callable[[nn.Module], Explain] = Explanation.LRP
    needs_relevance_rules: bool = False
    needs_feature_maps: bool = False
    needs_masks: bool = False
    frozen: str = ""

    def check_network(self, network: NetworkConfig, image_size: int) -> None:
        """Whether the network gives what the method needs; builds nothing.

        Raises:
            InputError: It does not, or does not take images of this size; says what would.
        """
        backbone = find_backbone(network.name)
        backbone.check_size(image_size)
        if not issubclass(backbone.network_class, self.network_class):
            fitting = ", ".join(b.name for b in BACKBONES if issubclass(b.network_class, self.network_class))
            raise InputError(
                f"method '{self.name}' needs a network of the class {self.network_class.__name__}, which "
                f"'{network.name}' is not: choose one of {fitting}"
            )
        if self.needs_feature_maps and not backbone.supervised_layers:
            raise InputError(
                f"method '{self.name}' needs the feature maps of the last layer, which network '{network.name}' does "
                "not name in supervised_layers: choose another network, as 'densenet121'"
            )
        if self.needs_relevance_rules and not backbone.has_relevance_rules:
            raise InputError(
                f"method '{self.name}' needs relevance rules, which network '{network.name}' does not have. Train it "
                "with method 'cross_entropy', or choose a network with rules, as 'densenet121'"
            )

    def build_predictor(self, network: NetworkConfig, classes: int, image_size: int, options: Any) -> nn.Module:
        """The module that predicts, its weights drawn from torch's global generator.

        Args:
            network: Which backbone.
            classes: Number of outputs.
            image_size: Rows and columns of the images.
            options: An instance of `options`.
        """
        return self.predictor(build_network(network, classes, image_size), options)

    def objective(self, network: NetworkConfig, classes: int, image_size: int, options: Any) -> Objective:
        """Builds predictor and objective; arguments as of `build_predictor`.

        Raises:
            InputError: The network does not give what the method needs.
        """
        self.check_network(network, image_size)
        predictor = self.build_predictor(network, classes, image_size, options)
        try:
            return self.build(predictor, find_backbone(network.name), options)
        except RelevanceError as error:
            raise InputError(
                f"method '{self.name}' cannot explain network '{network.name}' while it trains: {error}. Train it with "
                "method 'cross_entropy', or choose another network"
            ) from error

    def parse_options(self, options: Mapping[str, Any]) -> Any:
        """Options as in a YAML file to the method's dataclass; raises `InputError` naming the choices."""
        try:
            return parse_settings(dict(options), self.options, "options")
        except ValueError as error:
            known = ", ".join(self.options.__dataclass_fields__) or "none"
            raise InputError(f"options of method '{self.name}': {error}. Its options are: {known}") from error
