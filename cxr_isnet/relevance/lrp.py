"""Trainable layer-wise relevance propagation for any network built of operations that have rules."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cxr_isnet.relevance.epsilon import EpsilonRules
from cxr_isnet.relevance.errors import NotLogitsError, RelevanceError, UnfitRuleError
from cxr_isnet.relevance.first_layer import Bound, BoxRule
from cxr_isnet.relevance.in_graph import enroll, in_graph
from cxr_isnet.relevance.places import At
from cxr_isnet.relevance.recorder import record
from cxr_isnet.relevance.targets import Target, per_class_or_highest
from cxr_isnet.relevance.trace import IMAGE, ForwardPass, Trace, wide
from cxr_isnet.relevance.verification import example_images, has_numbers, takes, verified

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_TRIES = 4  # examples of images, where a rule does not fit the first
_STRUCTURES = 64  # kept per network: more than one if parts of it are skipped at random


class Propagation(Protocol):
    """Rules prepared for one network: the backward pass of relevance."""

    def __call__(self, run: ForwardPass, seed: Tensor, /) -> dict[int, Tensor]:
        """Relevance (K * B, C, H, W) by index of the step, from the signal `seed` (K * B, classes) at the logits."""


class Rules(Protocol):
    """Set of rules: a table from operation to rule and the propagation that applies it."""

    @property
    def table(self) -> Mapping[Any, object]:
        """Operation -> rule."""

    def prepare(self, trace: Trace, box: BoxRule | None, wanted: frozenset[int], /) -> Propagation:
        """Propagation of these rules through one network.

        Args:
            trace: the network.
            box: rule of the layer that reads the image, where these rules have none of their own for it; or None.
            wanted: nodes whose relevance is wanted, `IMAGE` among them or not.

        Raises:
            MissingRuleError: if relevance would pass a node that the table does not know.
        """


@dataclass(frozen=True)
class Relevance:
    """Relevance maps of a batch.

    Attributes:
        image: (B, K, C, H, W) float32 or wider: relevance of every pixel, K maps per image; none of the C channels, if
            the image's relevance was not asked for.
        layers: by module path, relevance (B, K, C', h, w) of that module's output.
    """

    image: Tensor
    layers: Mapping[str, Tensor]


class LRP(nn.Module):
    """Network that returns its relevance with its logits: ``logits, relevance = LRP(network)(images)``.

    The network itself is run, every time, and what it does is recorded: nothing is copied or changed, so its logits are
    its own, in training and in evaluation, with its hooks, and after a part of it was replaced. The record is compared
    with the network once for each structure that it has. Relevance is part of the autograd graph, so a loss made of it
    trains the weights; it is float32 or wider whatever autocast does. In training mode batch norms use the statistics
    of the batch, held constant in the relevance pass.

    Args:
        network: module from images (B, C, H, W) to logits (B, classes), of operations that have rules.
        rules: one set of rules, or several that share the forward pass; their maps follow each other in K.
        image_range: smallest and largest value of a pixel, for the z^B rule of the first layer, each a number or one
            for every channel; None to apply `rules` there. A table that has another rule for that layer keeps it.
        first_epsilon: stabiliser of that rule.
        layers: module paths, as in ``named_modules``, whose outputs' relevance is wanted too.
        to_image: propagate to the image; otherwise to `layers` only, and what is below them needs no rules.

    Raises:
        RelevanceError: if the network cannot be followed or has an operation without a rule; the message names it.
            Here, where images that the network takes can be guessed, else at the first call.

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
        image_range: tuple[Bound, Bound] | None = (0.0, 1.0),
        first_epsilon: float = 1e-2,
        layers: Sequence[str] = (),
        to_image: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.number = -1
        self._propagations: list[Rules] = (
            [EpsilonRules()] if rules is None else list(rules) if isinstance(rules, Sequence) else [rules]
        )
        self._whole = {key for s in self._propagations for key in s.table if isinstance(key, type)}
        self._box = None if image_range is None else BoxRule(*image_range, first_epsilon)
        given = (rule for one in self._propagations for rule in one.table.values() if isinstance(rule, BoxRule))
        self._range = next(given, self._box)
        self._range_told = False
        self._layers, self._to_image = tuple(layers), to_image
        self._prepared: dict[Any, list[Propagation]] = {}
        modules = dict(network.named_modules())
        wrapped = next((m for m in modules.values() if isinstance(m, _PARALLEL)), None)
        if wrapped is not None:
            kind = type(wrapped).__name__
            raise RelevanceError(f"the network is in a {kind}, which calls copies of it: make it {kind}(LRP(network))")
        if not layers and not to_image:
            raise RelevanceError("neither the image's relevance is wanted nor a layer's: name layers")
        for name in layers:
            if name not in modules:
                known = ", ".join(n for n in modules if n)
                raise RelevanceError(
                    f"the network has no module '{name}' that is called in its forward; it has: {known}"
                )
        for place in (key for one in self._propagations for key in one.table if isinstance(key, At)):
            if not place.exists(modules):
                known = ", ".join(n for n in modules if n)
                raise RelevanceError(
                    f"a rule is for At('{place.path}'), but the network has no module of that path; it has: {known}"
                )
        enroll(self)
        self._try_out()

    def forward(self, images: Tensor, target: Target = per_class_or_highest) -> tuple[Tensor, Relevance]:
        """Logits and relevance of a batch.

        Args:
            images: (B, C, H, W), in `image_range`.
            target: from logits to the derivative of the K quantities to explain: by default every logit, or
                of more than 512 the highest.

        Returns:
            Logits (B, classes) and the relevance maps.

        Raises:
            RelevanceError: if the target gives a signal of another shape than (K, B, classes), or the network does in
                this mode what has no rule.
        """
        if not len(images):
            raise RelevanceError(f"no images: a batch of shape {tuple(images.shape)}")
        compiling = torch.compiler.is_compiling()
        if compiling:
            logits, backward = in_graph(self, images)
        else:
            self._check_range(images)
            run = self.record(images)
            logits = run.logits
        seed = target(wide(logits))
        if seed.dim() != 3 or seed.shape[1:] != logits.shape:
            raise RelevanceError(
                f"the target gave a signal of shape {tuple(seed.shape)}; needed: (K, *{tuple(logits.shape)})"
            )
        found = backward(seed) if compiling else self.propagate(run, seed)
        return logits, Relevance(found[0], dict(zip(self._layers, found[1:], strict=True)))

    def record(self, images: Tensor, network: Callable[[Tensor], Any] | None = None) -> ForwardPass:
        """A forward pass; `network` calls the network, if it is not to be called as it is."""
        return record(self.network, images, self._whole, self._layers, run=network)

    def propagate(self, run: ForwardPass, seed: Tensor) -> tuple[Tensor, ...]:
        """The maps (B, K, C, H, W) of the image and of the layers."""
        structure = run.structure()
        if structure not in self._prepared and has_numbers(run.values[IMAGE]):
            self._prepare(verified(self.network, run.values[IMAGE], self._whole, self._layers))
        if structure not in self._prepared:  # while it is compiled; or a part of the network is skipped at random
            self._prepare(run)
        batch = run.logits.shape[0]
        device = run.logits.device.type
        with torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False):
            found = [propagation(run, seed.flatten(0, 1)) for propagation in self._prepared[structure]]
        maps = [torch.cat([_by_image(f[i], batch) for f in found], 1) for i in run.layers.values()]
        if self._to_image:
            return (torch.cat([_by_image(f[IMAGE], batch) for f in found], 1), *maps)
        image = run.values[IMAGE]
        return (wide(image).new_empty(batch, maps[0].shape[1], 0, *image.shape[2:]), *maps)

    def _prepare(self, run: ForwardPass) -> None:
        """Rules for a structure not seen before."""
        trace = run.trace()
        wanted = frozenset(trace.layers.values()) | ({IMAGE} if self._to_image else set())
        if len(self._prepared) >= _STRUCTURES:
            self._prepared.clear()
        self._prepared[run.structure()] = [rules.prepare(trace, self._box, wanted) for rules in self._propagations]

    def _try_out(self) -> None:
        """One pass over images of the right shape, if it can be guessed, so that what has no rule is told at once."""
        unfit: UnfitRuleError | None = None
        tried = 0
        for images in example_images(self.network):
            if not has_numbers(images):
                return  # a network that has shapes alone
            if not takes(self.network, images):
                continue
            try:
                run = verified(self.network, images, self._whole, self._layers)
            except NotLogitsError:
                continue
            self._prepare(run)
            tried += 1
            try:
                with torch.no_grad():
                    self.propagate(run, torch.ones_like(wide(run.logits))[None])
            except UnfitRuleError as error:  # perhaps of images that are too small, or of other channels
                unfit = unfit or error
                if tried < _TRIES:
                    continue
                raise unfit from error
            except RelevanceError:
                raise
            except Exception as error:  # a rule of the user's own; it will say so again when it is used
                logging.getLogger(__name__).warning("a rule failed for example images: %s", error)
            return

    def _check_range(self, images: Tensor) -> None:
        if self._range is None or self._range_told or not has_numbers(images):
            return
        self._range_told = images.is_cuda  # there a look at every batch would stop the GPU: the first one only
        low, high = (
            torch.as_tensor(bound, dtype=images.dtype, device=images.device).reshape(-1, 1, 1)
            for bound in (self._range.low, self._range.high)
        )
        slack = 1e-4 * (high - low)
        if bool(((images < low - slack) | (images > high + slack)).any()):
            self._range_told = True
            warnings.warn(
                f"images range from {float(images.min()):.3g} to {float(images.max()):.3g}, outside image_range "
                f"({self._range.low}, {self._range.high}): relevance of the first layer (z^B) is that of other images. "
                "Give LRP their range: image_range=(low, high), each a number or one for every channel",
                stacklevel=3,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        enroll(self)


def _by_image(relevance: Tensor, batch: int) -> Tensor:
    """(K * B, ...) to (B, K, ...), float32 or wider."""
    by_map: Tensor = wide(relevance).unflatten(0, (-1, batch))
    return by_map.transpose(0, 1)
