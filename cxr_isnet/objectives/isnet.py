"""ISNet: cross-entropy and a penalty on relevance outside the lungs, in four variants, and with gradient times input in
place of relevance, in two."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cxr_isnet.config import spell_by_value
from cxr_isnet.errors import InputError
from cxr_isnet.losses import BoundEstimator, ForegroundForm, HeatmapLossConfig, RelevanceBounds, heatmap_loss
from cxr_isnet.networks import Backbone, as_they_are
from cxr_isnet.objectives.background_swap import swap_backgrounds
from cxr_isnet.objectives.balance import TrainingSet
from cxr_isnet.objectives.method import Method
from cxr_isnet.objectives.objective import Batch, Objective
from cxr_isnet.relevance import (
    LRP,
    AlphaBetaRules,
    AlphaBetaStart,
    EpsilonRules,
    Rules,
    per_class,
    selective,
    stochastic,
    sum_of_logits,
    top_probability,
)

_log = logging.getLogger(__name__)

_IMAGE = "image"
_FEW_CLASSES = 5
_COST_AT_ALL, _COST_OF_A_MAP = 1.8, 0.92
"""Of a step, in steps of cross-entropy, with deep supervision: measured on a CPU, DenseNet121, 224 px."""

spell_by_value(ForegroundForm)


@dataclass(frozen=True)
class ISNetOptions:
    """Settings of ISNet.

    Attributes:
        heatmap_weight: P in [0, 1]: loss = (1 - P) * classification + P * heatmap loss.
        loss: The heatmap loss.
        epsilon: Stabiliser of the LRP rules, in units of the activations.
        deep_supervision: Penalise relevance at the network's inner layers too.
        layers: Module paths of these inner layers, as in `named_modules`; empty for those that the network names.
        bound_estimation_epochs: Epochs of plain training before the bounds C1 and C2 are measured.
        background_swap: Probability in [0, 1] that, in training, an image's lungs lie on the background of another
            image, as in the method `background_swap`. 0 is ISNet as published, whose penalty does not see a background
            that switches neurons on and off and leaves the decision to their biases.
        bounds: (C1, C2) for all maps instead of measuring them; not with deep supervision or `isnet_dual`, whose maps
            each need their own.
    """

    heatmap_weight: float = 0.5
    loss: HeatmapLossConfig = field(default_factory=HeatmapLossConfig)
    epsilon: float = 1e-2
    deep_supervision: bool = True
    layers: tuple[str, ...] = ()
    bound_estimation_epochs: int = 2
    background_swap: float = 1.0
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.heatmap_weight <= 1:
            raise InputError(f"heatmap_weight is {self.heatmap_weight}; it must lie in [0, 1]")
        if self.bounds is None and self.bound_estimation_epochs < 1:
            raise InputError(
                f"bound_estimation_epochs is {self.bound_estimation_epochs}; give at least 1, or give bounds"
            )
        if self.bounds is not None and not 0 < self.bounds[0] < self.bounds[1]:
            raise InputError(f"bounds are {self.bounds}; needed: 0 < C1 < C2, or leave them out and they are measured")
        if not 0 <= self.background_swap <= 1:
            raise InputError(f"background_swap is {self.background_swap}; it must lie in [0, 1]")
        if self.epsilon < 0:
            raise InputError(f"epsilon is {self.epsilon}; it must be 0 or more")
        for name in ("decay", "layer_decay"):
            if not 0 <= getattr(self.loss, name) <= 1:
                raise InputError(f"loss.{name} is {getattr(self.loss, name)}; it must lie in [0, 1]")
        if self.loss.activation <= 0:
            raise InputError(f"loss.activation is {self.loss.activation}; it must be above 0")


@dataclass(frozen=True)
class GradientInputOptions(ISNetOptions):
    """Settings of ISNet with maps of gradient times input: those of ISNet.

    Attributes:
        epsilon: 0 for gradient times input; above 0 it is LRP-epsilon without the rule of the first layer.
    """

    epsilon: float = 0.0


class ISNet(Objective):
    """A classifier trained to look inside the lungs (Bassi, Dertkigil, Cavalli, Nature Communications 15:291, 2024).

    The bounds of the foreground loss, once measured, are buffers: they travel with the state dict. A step is float32
    (on a GPU with TF32, where that is allowed) also under autocast: the weight gradient of the heatmap loss goes
    through the ratios of many activations, and in bf16 it points elsewhere (cosine with the float32 one 0.1 to 0.5).

    Args:
        network: Any network with rules.
        options: Settings.
        layers: Inner layers for deep supervision; empty for none.
        target: What each map explains.
        feature_maps: From what such a layer gives, or its relevance, to maps (B, C, h, w): the backbone's.
        dual: Two sets of rules, z+ and epsilon, instead of epsilon alone.
        image_range: Of the pixels, for the z^B rule of the first layer; None for epsilon there too.
    """

    takes_loss_weights = True

    bounds: Tensor

    def __init__(
        self,
        network: nn.Module,
        options: ISNetOptions,
        *,
        layers: Sequence[str],
        target: Callable[[Tensor], Tensor],
        feature_maps: Callable[[Tensor], Tensor] = as_they_are,
        dual: bool = False,
        image_range: tuple[float, float] | None = (0.0, 1.0),
    ) -> None:
        super().__init__(network)
        epsilon = EpsilonRules(epsilon=options.epsilon)
        z_plus = AlphaBetaRules(epsilon=options.epsilon, start=AlphaBetaStart.CONTRIBUTIONS)
        rules: list[Rules] = [z_plus, epsilon] if dual else [epsilon]
        self._lrp = LRP(network, rules, image_range=image_range, first_epsilon=options.epsilon, layers=layers)
        self._options = options
        self._feature_maps = feature_maps
        self._target = target
        self._names = (_IMAGE, *layers)
        if options.bounds is not None and (dual or layers):
            raise InputError(
                "bounds can be given for a single map only: set deep_supervision to false, or leave bounds out, and "
                "they are measured"
            )
        given = options.bounds or (torch.nan, torch.nan)
        self.register_buffer("bounds", torch.tensor(given, dtype=torch.float64).repeat(len(self._names), len(rules), 1))
        self._has_bounds = options.bounds is not None
        self._estimators = [[BoundEstimator() for _ in rules] for _ in self._names]

    @property
    def bound_estimation_epochs(self) -> int:
        return 0 if self._options.bounds is not None else self._options.bound_estimation_epochs

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._has_bounds = not bool(self.bounds.isnan().any())

    def see_training_set(self, images: TrainingSet) -> None:
        """Says what many classes cost, where every class has a map of its own."""
        if self._target is per_class and images.class_count > _FEW_CLASSES:
            _log.warning(
                "a map for each of %d classes: a step costs about %.0f times that of cross_entropy (measured on "
                "DenseNet121 at 224 px). Method isnet_selective has one map, at 3 times, for any number of classes",
                images.class_count,
                _COST_AT_ALL + _COST_OF_A_MAP * images.class_count,
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and its terms `classification`, `heatmap`, `background`, `foreground`; `masked`: images with mask."""
        with torch.autocast(batch["image"].device.type, enabled=False):
            image = batch["image"]
            if self.training and self._options.background_swap > 0:
                image, _ = swap_backgrounds(batch, self._options.background_swap)
            logits, maps = self._maps(image)
            terms = heatmap_loss(maps, batch["mask"], batch["has_mask"], self._bounds_by_layer(), self._options.loss)
            classification = self.classification_loss(logits, batch)
            weight = self._options.heatmap_weight
            loss = (1 - weight) * classification + weight * terms.loss
        return {
            "logits": logits,
            "loss": loss,
            "classification": classification,
            "heatmap": terms.loss,
            "background": terms.background,
            "foreground": terms.foreground,
            "masked": terms.images,
        }

    @torch.no_grad()
    def measure(self, batch: Batch) -> None:
        _, maps = self._maps(batch["image"])
        for name, estimators in zip(self._names, self._estimators, strict=True):
            for estimator, group in zip(estimators, maps[name].chunk(len(estimators), 1), strict=True):
                estimator.update(group)

    def finish_estimation(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for i, (name, estimators) in enumerate(zip(self._names, self._estimators, strict=True)):
            for j, estimator in enumerate(estimators):
                bounds = estimator.bounds()
                self.bounds[i, j] = torch.tensor((bounds.low, bounds.high), dtype=self.bounds.dtype)
                key = f"{name}.{j}" if len(estimators) > 1 else name
                found |= {f"{key}.c1": float(bounds.low), f"{key}.c2": float(bounds.high)}
                found[f"{key}.mean"] = estimator.mean
        self._estimators = [[BoundEstimator() for _ in estimators] for estimators in self._estimators]
        self._has_bounds = True
        return found

    def _maps(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, relevance = self._lrp(image, self._target)
        by_layer = {
            name: self._feature_maps(found.flatten(0, 1)).unflatten(0, found.shape[:2])
            for name, found in relevance.layers.items()
        }
        return logits, {_IMAGE: relevance.image, **by_layer}

    def _bounds_by_layer(self) -> dict[str, list[RelevanceBounds]]:
        if not self._has_bounds:  # they may have come from another process since
            self._has_bounds = not bool(self.bounds.isnan().any())
        if not self._has_bounds:
            raise InputError(
                "the bounds of the foreground loss are not estimated yet: train with bound_estimation_epochs, or "
                "give bounds"
            )
        return {
            name: [RelevanceBounds(low, high) for low, high in pairs]
            for name, pairs in zip(self._names, self.bounds, strict=True)
        }


def _method(
    name: str,
    about: str,
    target: Callable[[Tensor], Tensor],
    *,
    options: type[ISNetOptions] = ISNetOptions,
    **settings: Any,
) -> Method:
    def build(network: nn.Module, backbone: Backbone, options: ISNetOptions) -> ISNet:
        layers = (options.layers or backbone.supervised_layers) if options.deep_supervision else ()
        feature_maps = backbone.feature_maps
        return ISNet(network, options, layers=layers, feature_maps=feature_maps, target=target, **settings)

    return Method(name, about, options, build, needs_relevance_rules=True, needs_masks=True)


ISNET = _method("isnet", "a map for every class", per_class)
ISNET_SELECTIVE = _method("isnet_selective", "one map, of the class with the lowest logit", selective)
ISNET_STOCHASTIC = _method("isnet_stochastic", "one map, of the highest logit or of another, by chance", stochastic())
ISNET_DUAL = _method(
    "isnet_dual", "two maps of all logits together, by the z+ and by the epsilon rule", sum_of_logits, dual=True
)
ISNET_GRAD_INPUT = _method(
    "isnet_grad_input",
    "ablation: a map for every class, of gradient times input",
    per_class,
    options=GradientInputOptions,
    image_range=None,
)
ISNET_SOFTMAX_GRAD_INPUT = _method(
    "isnet_softmax_grad_input",
    "ablation: one map, of the highest probability's gradient times input",
    top_probability,
    options=GradientInputOptions,
    image_range=None,
)
