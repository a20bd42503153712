"""Trainable layer-wise relevance propagation for any ReLU network built of operations that have rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from cxr_isnet.relevance.epsilon import EpsilonRules
from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.first_layer import FirstLayer
from cxr_isnet.relevance.forward import ForwardPass, run_network
from cxr_isnet.relevance.targets import Target, per_class
from cxr_isnet.relevance.trace import Trace, trace_network


class Propagation(Protocol):
    """Rules prepared for one network: the backward pass of relevance."""

    def __call__(self, run: ForwardPass, seed: Tensor, /) -> dict[int, Tensor]:
        """Relevance (K * B, C, H, W) by index of the step, from the signal `seed` (K * B, classes) at the logits."""


class Rules(Protocol):
    """Set of rules: a table from operation to rule and the propagation that applies it."""

    @property
    def table(self) -> Mapping[object, object]:
        """Operation -> rule."""

    def prepare(self, trace: Trace, first_layer: FirstLayer | None, layers: frozenset[int], /) -> Propagation:
        """Propagation of these rules through one network.

        Args:
            trace: the network.
            first_layer: z^B rule of the first layer, or None for these rules there too.
            layers: steps whose relevance is wanted beside the image's.

        Raises:
            MissingRuleError: if relevance would pass a step that the table does not know.
        """


@dataclass(frozen=True)
class Relevance:
    """Relevance maps of a batch.

    Attributes:
        image: (B, K, C, H, W) float32 or wider: relevance of every pixel, K maps per image.
        layers: by module path, relevance (B, K, C', h, w) of that module's output.
    """

    image: Tensor
    layers: Mapping[str, Tensor]


class LRP(nn.Module):
    """Network that returns its relevance with its logits: ``logits, relevance = LRP(network)(images)``.

    The network is used as it is: nothing is copied, hooked or changed, and its logits are bit-equal to those it gives
    by itself. Relevance is part of the autograd graph, so a loss made of it trains the weights. In training mode batch
    norms use the statistics of the batch, held constant in the relevance pass.

    Args:
        network: module from images (B, C, H, W) to logits (B, classes), of operations that have rules.
        rules: one set of rules, or several that share the forward pass; their maps follow each other in K.
        image_range: smallest and largest value of a pixel, for the z^B rule of the first layer; None to apply `rules`
            there.
        first_epsilon: stabiliser of that rule.
        layers: module paths, as in ``named_modules``, whose outputs' relevance is wanted too.

    Raises:
        RelevanceError: if the network cannot be traced or has an operation without a rule; the message names it.

    Source:
        Bassi, Dertkigil, Cavalli, Nature Communications 15:291 (2024); Bassi, Decherchi, Cavalli, IEEE Access 12
        (2024).

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
        >>> logits, relevance = LRP(network)(torch.rand(5, 1, 8, 8))
        >>> relevance.image.shape
        torch.Size([5, 2, 1, 8, 8])
        >>> relevance.image.abs().mean().backward()
    """

    def __init__(
        self,
        network: nn.Module,
        rules: Rules | Sequence[Rules] | None = None,
        *,
        image_range: tuple[float, float] | None = (0.0, 1.0),
        first_epsilon: float = 1e-2,
        layers: Sequence[str] = (),
    ) -> None:
        super().__init__()
        sets: list[Rules] = (
            [EpsilonRules()] if rules is None else list(rules) if isinstance(rules, Sequence) else [rules]
        )
        self.network = network
        self._trace = trace_network(network, {operation for s in sets for operation in s.table})
        self._layers = {name: self._trace.find(name) for name in layers}
        first = None if image_range is None else FirstLayer.find(self._trace, *image_range, first_epsilon)
        if first is not None:
            for name, index in self._layers.items():
                if index < first.last:
                    raise RelevanceError(
                        f"'{name}' lies inside the first layer, whose rule gives the image's relevance only"
                    )
        wanted = frozenset(self._layers.values())
        self._propagations = [s.prepare(self._trace, first, wanted) for s in sets]

    def forward(self, images: Tensor, target: Target = per_class) -> tuple[Tensor, Relevance]:
        """Logits and relevance of a batch.

        Args:
            images: (B, C, H, W), in `image_range`.
            target: from logits to the derivative of the K quantities to explain.

        Returns:
            Logits (B, classes) and the relevance maps.

        Raises:
            RelevanceError: if the target gives a signal of another shape than (K, B, classes).
        """
        run = run_network(self._trace, images)
        logits = run.logits
        seed = target(logits.float() if logits.dtype.itemsize < 4 else logits)
        if seed.dim() != 3 or seed.shape[1:] != logits.shape:
            raise RelevanceError(
                f"the target gave a signal of shape {tuple(seed.shape)}; needed: (K, *{tuple(logits.shape)})"
            )
        found = [propagation(run, seed.flatten(0, 1)) for propagation in self._propagations]
        indices = {"": self._trace.image, **self._layers}
        maps = {
            name: torch.cat([_by_image(f[index], images.shape[0]) for f in found], 1) for name, index in indices.items()
        }
        return logits, Relevance(maps.pop(""), maps)


def _by_image(relevance: Tensor, batch: int) -> Tensor:
    """(K * B, ...) to (B, K, ...), float32 or wider."""
    wide = relevance.float() if relevance.dtype.itemsize < 4 else relevance
    by_map: Tensor = wide.unflatten(0, (-1, batch))
    return by_map.transpose(0, 1)
