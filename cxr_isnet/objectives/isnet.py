"""ISNet: cross-entropy and a penalty on relevance outside the lungs, in four variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.choices import spell_by_value
from cxr_isnet.errors import InputError
from cxr_isnet.losses import Cuts, CutTuner, ForegroundForm, HeatmapLossConfig, heatmap_loss
from cxr_isnet.networks import NetworkSpec
from cxr_isnet.objectives.objective import Batch, Objective
from cxr_isnet.objectives.registry import METHODS, Method
from cxr_isnet.relevance import (
    LRP,
    AlphaBetaRules,
    EpsilonRules,
    Rules,
    all_logits,
    every_logit,
    least_likely,
    top_or_random,
)

_IMAGE = "image"

spell_by_value(ForegroundForm)


@dataclass(frozen=True)
class ISNetOptions:
    """Settings of ISNet.

    Attributes:
        heatmap_weight: P in [0, 1]: loss = (1 - P) * classification + P * heatmap loss.
        loss: The heatmap loss.
        epsilon: Stabiliser of the LRP rules, in units of the activations.
        deep_supervision: Penalise relevance at the network's inner layers too.
        tuning_epochs: Epochs of plain training before the cuts C1 and C2 are measured.
        cuts: (C1, C2) for all maps instead of measuring them; not with deep supervision or `isnet_dual`, whose maps
            each need their own.
    """

    heatmap_weight: float = 0.7
    loss: HeatmapLossConfig = field(default_factory=HeatmapLossConfig)
    epsilon: float = 1e-2
    deep_supervision: bool = False
    tuning_epochs: int = 2
    cuts: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.heatmap_weight <= 1:
            raise InputError(f"heatmap_weight is {self.heatmap_weight}; it must lie in [0, 1]")
        if self.cuts is None and self.tuning_epochs < 1:
            raise InputError(f"tuning_epochs is {self.tuning_epochs}; it must be at least 1 unless cuts are given")
        if self.cuts is not None and not 0 < self.cuts[0] < self.cuts[1]:
            raise InputError(f"cuts are {self.cuts}; needed: 0 < C1 < C2, or leave them out and they are measured")
        if self.epsilon < 0:
            raise InputError(f"epsilon is {self.epsilon}; it must be 0 or more")
        for name in ("decay", "layer_decay"):
            if not 0 <= getattr(self.loss, name) <= 1:
                raise InputError(f"loss.{name} is {getattr(self.loss, name)}; it must lie in [0, 1]")
        if self.loss.activation <= 0:
            raise InputError(f"loss.activation is {self.loss.activation}; it must be above 0")


class ISNet(Objective):
    """A classifier trained to look inside the lungs (Bassi, Dertkigil, Cavalli, Nature Communications 15:291, 2024).

    The cuts of the foreground loss, once measured, are buffers: they travel with the state dict.

    Args:
        network: Any ReLU network with rules.
        options: Settings.
        layers: Inner layers for deep supervision; empty for none.
        target: What each map explains.
        dual: Two sets of rules, z+ and epsilon, instead of epsilon alone.
    """

    cuts: Tensor

    def __init__(
        self,
        network: nn.Module,
        options: ISNetOptions,
        *,
        layers: Sequence[str],
        target: Callable[[Tensor], Tensor],
        dual: bool,
    ) -> None:
        super().__init__(network)
        epsilon = EpsilonRules(epsilon=options.epsilon)
        rules: list[Rules] = [AlphaBetaRules(epsilon=options.epsilon), epsilon] if dual else [epsilon]
        self._lrp = LRP(network, rules, layers=layers, first_epsilon=options.epsilon)
        self._options = options
        self._target = target
        self._names = (_IMAGE, *layers)
        if options.cuts is not None and (dual or layers):
            raise InputError("cuts can be given for a single map only: leave them out and they are measured")
        given = options.cuts or (torch.nan, torch.nan)
        self.register_buffer("cuts", torch.tensor(given, dtype=torch.float64).repeat(len(self._names), len(rules), 1))
        self._tuners = [[CutTuner() for _ in rules] for _ in self._names]

    @property
    def tuning_epochs(self) -> int:
        return 0 if self._options.cuts is not None else self._options.tuning_epochs

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and its terms `classification`, `heatmap`, `background`, `foreground`; `masked`: images with mask."""
        logits, maps = self._maps(batch["image"])
        with torch.autocast(batch["image"].device.type, enabled=False):
            terms = heatmap_loss(maps, batch["mask"], batch["has_mask"], self._cuts_by_layer(), self._options.loss)
            classification = F.cross_entropy(logits.float(), batch["label"])
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
        for name, tuners in zip(self._names, self._tuners, strict=True):
            for tuner, group in zip(tuners, maps[name].chunk(len(tuners), 1), strict=True):
                tuner.update(group)

    def finish_tuning(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for i, (name, tuners) in enumerate(zip(self._names, self._tuners, strict=True)):
            for j, tuner in enumerate(tuners):
                cuts = tuner.cuts()
                self.cuts[i, j] = torch.tensor((cuts.low, cuts.high), dtype=self.cuts.dtype)
                key = f"{name}.{j}" if len(tuners) > 1 else name
                found |= {f"{key}.c1": cuts.low, f"{key}.c2": cuts.high, f"{key}.mean": tuner.mean}
        self._tuners = [[CutTuner() for _ in tuners] for tuners in self._tuners]
        return found

    def _maps(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, relevance = self._lrp(image, self._target)
        return logits, {_IMAGE: relevance.image, **relevance.layers}

    def _cuts_by_layer(self) -> dict[str, list[Cuts]]:
        values = self.cuts.tolist()
        if values[0][0][0] != values[0][0][0]:
            raise InputError(
                "the cuts of the foreground loss are not measured yet: train with tuning_epochs, or give cuts"
            )
        return {name: [Cuts(*pair) for pair in pairs] for name, pairs in zip(self._names, values, strict=True)}


def _build(
    network: nn.Module,
    spec: NetworkSpec,
    options: ISNetOptions,
    *,
    target: Callable[[Tensor], Tensor],
    dual: bool = False,
) -> ISNet:
    layers = spec.supervised_layers if options.deep_supervision else ()
    return ISNet(network, options, layers=layers, target=target, dual=dual)


METHODS.register(Method("isnet", ISNetOptions, partial(_build, target=every_logit)))
METHODS.register(Method("isnet_selective", ISNetOptions, partial(_build, target=least_likely)))
METHODS.register(Method("isnet_stochastic", ISNetOptions, partial(_build, target=top_or_random())))
METHODS.register(Method("isnet_dual", ISNetOptions, partial(_build, target=all_logits, dual=True)))
