"""What a probe is, and the context that it runs in: a model together with the images of the audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cxr_isnet.audit.audit_set import AuditSet
from cxr_isnet.audit.audited_model import AuditedModel, ImageFunction
from cxr_isnet.audit.statistics import ProbeResult
from cxr_isnet.audit.training_images import TrainingImages
from cxr_isnet.evaluation import FloatArray, IntArray, PatientBootstrap


@dataclass(frozen=True)
class AuditContext:
    """Input of every probe.

    Attributes:
        model: under audit.
        data: images that it is audited on.
        resamples: bootstrap resamples of an interval.
        seed: of all random choices.
        batch_size: images at a time.
        training: images of the hospitals that the model was trained on; None where they are not known.
    """

    model: AuditedModel
    data: AuditSet
    resamples: int = 2000
    seed: int = 0
    batch_size: int = 32
    training: TrainingImages | None = None

    @cached_property
    def probabilities(self) -> FloatArray:
        """Predicted probabilities (N, classes) of the images as they are."""
        return self.in_batches(self.model.probabilities, self.data.images, "images as they are")

    @cached_property
    def mean_image(self) -> Tensor:
        """Mean (1, 1, H, W) of all images, in place of what is erased."""
        return self.data.images.mean(0, keepdim=True)

    @property
    def mean_grey(self) -> float:
        """Mean of the mean image, to cover what is to be hidden."""
        return float(self.mean_image.mean())

    def in_batches(self, function: ImageFunction, images: Tensor, description: str) -> FloatArray:
        """Output of a function of the model for any number of images, with a progress bar.

        Args:
            function: of the model, as `model.probabilities`.
            images: (N, 1, H, W) float32 in [0, 1].
            description: of the progress bar.

        Returns:
            (N, ...).
        """
        steps = range(0, len(images), self.batch_size)
        bar = tqdm(steps, desc=description, unit="batch", disable=None, leave=False)
        return np.concatenate([function(images[start : start + self.batch_size]) for start in bar])

    def bootstrap(self, rows: IntArray | None = None) -> PatientBootstrap:
        """Bootstrap over the patients of all images, or of these rows."""
        return self.bootstrap_of(self.data if rows is None else self.data.subset(rows))

    def bootstrap_of(self, data: AuditSet) -> PatientBootstrap:
        """Bootstrap over the patients of any images."""
        numbers = np.unique(data.patients, return_inverse=True)[1].astype(np.int64)
        return PatientBootstrap(numbers, self.resamples, self.seed)

    def rng(self) -> np.random.Generator:
        """New random generator, the same for every probe."""
        return np.random.default_rng(self.seed)

    def tile(self, images: Tensor, row: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """One image (H, W) for a panel."""
        shown: np.ndarray[tuple[int, int], np.dtype[np.float32]] = torch.as_tensor(images[row, 0]).numpy()
        return shown


class Capability(StrEnum):
    """Function that a model may have beside probabilities; named as in `AuditedModel`."""

    FEATURES = "features"
    HEATMAPS = "heatmaps"
    RANDOMISED = "randomised"

    @property
    def text(self) -> str:
        """Name in messages."""
        return "heatmaps of random weights" if self is Capability.RANDOMISED else self.value


@dataclass(frozen=True)
class Probe:
    """A question put to a model, a function that answers it with statistics, and the rule of its verdict.

    Attributes:
        name: short, for files and trackers.
        title: for the report.
        question: what it asks.
        rule: when its answer shows a shortcut.
        limits: what it cannot show.
        needs: capabilities of the model beside probabilities.
        run: context to statistics.
        checks_heatmaps: it looks for uninformative heatmaps, not for a shortcut.
        is_control: it looks for a model that tells the classes apart, without which no other finds nothing.
    """

    name: str
    title: str
    question: str
    rule: str
    limits: str
    needs: tuple[Capability, ...]
    run: Callable[[AuditContext], ProbeResult]
    checks_heatmaps: bool = False
    is_control: bool = False

    def missing(self, model: AuditedModel) -> tuple[Capability, ...]:
        """Needed capabilities that the model lacks."""
        return tuple(capability for capability in self.needs if getattr(model, capability.value) is None)
