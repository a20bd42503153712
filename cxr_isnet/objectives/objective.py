"""What one training step minimises: a network and a batch in, named loss terms out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.objectives.balance import BalanceConfig, TrainingSet, balanced


class Batch(TypedDict):
    """The tensors of one batch, all on one device.

    Attributes:
        image: (B, 1, H, W) float32 in [0, 1].
        mask: (B, 1, H, W) float32 of 0 and 1, the lungs; zeros where there is no mask.
        has_mask: (B,) bool.
        label: (B,) int64, index of the class.
        site: (B,) int64, index of the hospital among those of training, in the order of their names; -1 of another.
    """

    image: Tensor
    mask: Tensor
    has_mask: Tensor
    label: Tensor
    site: Tensor


def check_batch(batch: Batch) -> None:
    """Raises `InputError` if the tensors of a batch do not belong to the same images."""
    images = tuple(batch["image"].shape)
    if batch["mask"].shape != images:
        raise InputError(f"mask has shape {tuple(batch['mask'].shape)}, image {images}: give one of the image's size")
    for name, values in (("has_mask", batch["has_mask"]), ("label", batch["label"]), ("site", batch["site"])):
        if values.shape != images[:1]:
            raise InputError(f"{name} has shape {tuple(values.shape)} for {images[0]} images: give one for each")


class Objective(nn.Module, ABC):
    """A network with the loss it is trained on.

    A module, so that everything a step computes, relevance included, happens inside one forward: that is what
    DistributedDataParallel and torch.compile need.

    Args:
        network: What predicts, images (B, 1, H, W) to logits (B, classes). Its weights are what a training keeps.
    """

    needs_gradients: ClassVar[bool] = False
    """Whether `forward` differentiates by itself, as a penalty on input gradients does. Validation then runs with
    gradients switched on; else it runs without, which takes less memory. Relevance (`LRP`) needs none."""

    takes_loss_weights: ClassVar[bool] = False
    """Whether its loss is `classification_loss` and what is added to it, so that images can count by their group."""

    loss_weights: Tensor | None
    """(2, classes, sites), as of `balanced`; None where every image counts the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("loss_weights", None, persistent=False)
        self._sampling_weights: Tensor | None = None

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of one batch, in training mode and, for validation, in evaluation mode.

        Args:
            batch: Tensors on the network's device.

        Returns:
            The scalar `loss`; of a classifier `logits` (B, classes); and any further scalars worth logging.
        """

    def see_training_set(self, images: TrainingSet) -> None:
        """Takes what is known of the training images: before the first epoch, and before a saved state is restored."""

    def balance(self, images: TrainingSet, config: BalanceConfig) -> None:
        """Lets groups of training images count the same; at the time of `see_training_set`, after it.

        Raises:
            InputError: The objective balances groups by itself, or its loss takes no weights.
        """
        if self.sampling_weights is not None or self.loss_weights is not None:
            raise InputError("balance is set, but the method balances groups by itself: leave balance out")
        if config.weighting and not self.takes_loss_weights:
            raise InputError(
                "balance.weighting is true, but the method's loss takes no weights: balance by sampling alone"
            )
        self._sampling_weights, self.loss_weights = balanced(images, config)

    @property
    def sampling_weights(self) -> Tensor | None:
        """(N,) float, how often each training image is drawn in an epoch, in proportion; None for each once."""
        return self._sampling_weights

    def classification_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch, computed in float32; an image counts by its group where those are balanced."""
        if self.loss_weights is None:
            return F.cross_entropy(logits.float(), batch["label"])
        losses = F.cross_entropy(logits.float(), batch["label"], reduction="none")
        table = self.loss_weights[0 if self.training else 1]
        weights = table[batch["label"], batch["site"].clamp(min=0)]
        return (torch.where(batch["site"] >= 0, weights, 1.0) * losses).mean()

    @property
    def bound_estimation_epochs(self) -> int:
        """Epochs of plain training before `measure` sees the training set once; 0 where no bounds are estimated."""
        return 0

    def measure(self, batch: Batch) -> None:
        """Takes one training batch, under no_grad, after the plain training; the network then holds its weights."""

    def finish_estimation(self) -> dict[str, float]:
        """Sets the bounds from the measurements; returns them by name, for the log."""
        return {}
