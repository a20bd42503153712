"""Groups of training images that count the same: by how often they are drawn, by their weight in the loss, or half by
each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from cxr_isnet.config import spell_by_value
from cxr_isnet.errors import InputError


class Groups(Enum):
    """What makes a group of training images."""

    NONE = "none"
    CLASS = "class"
    CLASS_AND_SITE = "class_and_site"


spell_by_value(Groups)


@dataclass(frozen=True)
class BalanceConfig:
    """Which groups of training images count the same, and how. With both, each does half: the square root of the
    inverse frequency.

    Attributes:
        groups: `none`; `class`; or `class_and_site`, every class of every hospital that is there.
        sampling: Images of rare groups are drawn more often.
        weighting: Images of rare groups count more in the classification loss.

    Example:
        >>> BalanceConfig(Groups.CLASS, sampling=False, weighting=True).share_sampled
        0.0
    """

    groups: Groups = Groups.NONE
    sampling: bool = True
    weighting: bool = False

    def __post_init__(self) -> None:
        if self.groups is not Groups.NONE and not (self.sampling or self.weighting):
            raise InputError(
                f"balance.groups is '{self.groups.value}', but balance.sampling and balance.weighting are both false: "
                "switch one on, or set groups to none"
            )

    @property
    def share_sampled(self) -> float:
        """Of the correction, in [0, 1]; the rest is by weights."""
        return self.sampling / max(1, self.sampling + self.weighting)


@dataclass(frozen=True)
class TrainingSet:
    """What an objective may know of the images that it is trained on.

    Attributes:
        labels: (N,) int64, index of the class, in the order of the data set.
        sites: (N,) int64, index of the hospital, as in a batch.
        class_count: Number of classes.
        site_count: Number of hospitals.
    """

    labels: Tensor
    sites: Tensor
    class_count: int
    site_count: int

    def counts(self) -> Tensor:
        """(classes, sites) int64, images of each class of each hospital."""
        shape = (self.class_count, self.site_count)
        index = self.labels * self.site_count + self.sites
        return torch.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)


def inverse_frequency(counts: Tensor, power: float = 1.0) -> Tensor:
    """n ** -power of a group of n images, float32 of the shape of `counts`; 0 of one without."""
    return torch.where(counts > 0, counts.clamp(min=1).float() ** -power, 0.0)


def balanced(images: TrainingSet, config: BalanceConfig) -> tuple[Tensor | None, Tensor]:
    """How often training images are drawn, and how much an image counts in the loss.

    Args:
        images: Of the training.
        config: Its groups are not none.

    Returns:
        (N,) float32, how often each is drawn, in proportion; None for each once. And (2, classes, sites) float32, the
        weight of an image in training, where the mean over those drawn is 1, and in validation, which samples
        nothing; 1 of a group that training has none of.
    """
    counts = images.counts()
    if config.groups is Groups.CLASS:
        counts = counts.sum(1, keepdim=True)
    sampled = config.share_sampled
    tables = []
    for left in (1 - sampled, 1.0):
        scale = inverse_frequency(counts, -left).sum() / (counts > 0).sum()
        tables.append(torch.where(counts > 0, scale * inverse_frequency(counts, left), 1.0))
    shape = (2, images.class_count, images.site_count)
    drawn = inverse_frequency(counts, sampled).expand(shape[1:])[images.labels, images.sites]
    return drawn if sampled else None, torch.stack(tables).expand(shape)
