"""Training that is fair to groups of class and hospital: balanced groups, and group DRO."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.objectives.balance import BalanceConfig, Groups, TrainingSet, balanced, inverse_frequency
from cxr_isnet.objectives.method import Method
from cxr_isnet.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class BalancedOptions:
    """Settings of balanced groups. With both, each does half: the square root of the inverse frequency.

    Attributes:
        sampling: Images of rare groups are drawn more often.
        weighting: Images of rare groups count more in the loss.
    """

    sampling: bool = True
    weighting: bool = False

    def __post_init__(self) -> None:
        if not (self.sampling or self.weighting):
            raise InputError("sampling and weighting are both false: switch one on, or train method 'cross_entropy'")


class Balanced(Objective):
    """loss = cross-entropy in which every group of class and hospital that is there counts the same: what the setting
    `balance` does for other methods.

    Where every hospital has one class only, that is a balance of classes: nothing in the groups then tells class and
    hospital apart. Validation images count by the inverse frequency of their group in training.
    """

    def __init__(self, network: nn.Module, options: BalancedOptions) -> None:
        super().__init__(network)
        self._config = BalanceConfig(Groups.CLASS_AND_SITE, options.sampling, options.weighting)

    def see_training_set(self, images: TrainingSet) -> None:
        self._sampling_weights, self.loss_weights = balanced(images, self._config)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and the unweighted `classification`."""
        if self.loss_weights is None:
            raise InputError("the groups are not known yet: call see_training_set before the first epoch")
        logits = self.network(batch["image"])
        plain = F.cross_entropy(logits.float(), batch["label"])
        return {"logits": logits, "loss": self.classification_loss(logits, batch), "classification": plain}


@dataclass(frozen=True)
class GroupDROOptions:
    """Settings of group DRO.

    Attributes:
        step_size: Of the groups' weights, above 0: how fast they follow the losses.
    """

    step_size: float = 0.01

    def __post_init__(self) -> None:
        if self.step_size <= 0:
            raise InputError(f"step_size is {self.step_size}; it must be above 0")


class GroupDRO(Objective):
    """Distributionally robust optimisation over the groups of label and hospital.

    Weights q of the groups rise with their losses, q_g <- q_g exp(step_size * loss_g), normalised; loss = sum of q_g
    loss_g. A group that a batch lacks keeps its weight but for the normalisation. Groups are drawn equally often.
    Validation images count by q of their group over its frequency in training, which gives the same sum.

    Attributes:
        counts: (classes, sites) int64, of the training images. It travels with the state dict.
        weights: (groups,) float32, q. They travel with the state dict.

    Source:
        Sagawa, Koh, Hashimoto, Liang, Distributionally robust neural networks for group shifts, ICLR 2020
        (arXiv 1911.08731), algorithm 1, for batches of several groups.
    """

    counts: Tensor
    weights: Tensor

    def __init__(self, network: nn.Module, options: GroupDROOptions) -> None:
        super().__init__(network)
        self._step_size = options.step_size
        self.register_buffer("counts", torch.zeros(0, 0, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(0))

    def see_training_set(self, images: TrainingSet) -> None:
        self.counts = images.counts()
        present = (self.counts.flatten() > 0).float()
        self.weights = present / present.sum()
        self._sampling_weights = inverse_frequency(self.counts)[images.labels, images.sites]

    def group(self, batch: Batch) -> Tensor:
        """(B,) int64, index in the flattened `counts`; -1 of an image whose group training has none of."""
        if not len(self.counts):
            raise InputError("the groups are not known yet: call see_training_set before the first epoch")
        group = batch["label"] * self.counts.shape[1] + batch["site"]
        known = (batch["site"] >= 0) & (self.counts.flatten()[group.clamp(min=0)] > 0)
        return torch.where(known, group, -1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, the unweighted `classification`, and `largest_weight` of a group."""
        logits = self.network(batch["image"])
        losses = F.cross_entropy(logits.float(), batch["label"], reduction="none")
        group = self.group(batch)
        if self.training:
            loss = self._weighted(losses, group)
        else:
            by_group = self.weights * self.counts.sum() * inverse_frequency(self.counts.flatten())
            loss = (torch.where(group >= 0, by_group[group.clamp(min=0)], 1.0) * losses).mean()
        return {
            "logits": logits,
            "loss": loss,
            "classification": losses.mean(),
            "largest_weight": self.weights.max().clone(),
        }

    def _weighted(self, losses: Tensor, group: Tensor) -> Tensor:
        """The loss of a training batch, whose groups' weights are moved first."""
        sums = torch.zeros_like(self.weights).index_add(0, group, losses)
        sizes = torch.zeros_like(self.weights).index_add(0, group, torch.ones_like(losses))
        own, processes = sums, 1
        with torch.no_grad():
            total = torch.stack((sums, sizes))
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(total)
                processes = dist.get_world_size()
            sizes = total[1].clamp(min=1)
            raised = self.weights * torch.exp(self._step_size * total[0] / sizes)
            self.weights.copy_(raised / raised.sum())
            weights = self.weights.clone()
        return processes * (weights * own / sizes).sum()  # gradients are averaged over the processes


BALANCED = Method(
    "balanced",
    "cross-entropy with groups of label and hospital balanced, by sampling or by weights",
    BalancedOptions,
    lambda network, backbone, options: Balanced(network, options),
)
GROUP_DRO = Method(
    "group_dro",
    "cross-entropy of the worst groups of label and hospital (group DRO)",
    GroupDROOptions,
    lambda network, backbone, options: GroupDRO(network, options),
)
