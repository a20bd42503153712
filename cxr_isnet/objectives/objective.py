"""What one training step minimises: a network and a batch in, named loss terms out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

Batch = Mapping[str, Any]
"""`image` (B, 1, H, W) float32 in [0, 1], `mask` likewise in {0, 1}, `has_mask` (B,) bool, `label` (B,) int64."""


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

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of one batch, in training mode and, for validation, in evaluation mode.

        Args:
            batch: Tensors on the network's device.

        Returns:
            The scalar `loss`; of a classifier `logits` (B, classes); and any further scalars worth logging.
        """

    @property
    def bound_estimation_epochs(self) -> int:
        """Epochs of plain training before `measure` sees the training set once; 0 where no bounds are estimated."""
        return 0

    def measure(self, batch: Batch) -> None:
        """Takes one training batch, under no_grad, after the plain training; the network then holds its weights."""

    def finish_estimation(self) -> dict[str, float]:
        """Sets the bounds from the measurements; returns them by name, for the log."""
        return {}
