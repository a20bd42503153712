"""A model together with the images it is audited on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cxr_isnet.audit.audit_set import AuditSet
from cxr_isnet.audit.audited_model import Answer, AuditedModel
from cxr_isnet.evaluation import FloatArray, IntArray, PatientBootstrap


@dataclass(frozen=True)
class AuditContext:
    """What every probe is given.

    Attributes:
        model: under audit.
        images: what it is shown.
        resamples: bootstrap resamples of an interval.
        seed: of everything drawn.
        batch_size: images at a time.
    """

    model: AuditedModel
    images: AuditSet
    resamples: int = 2000
    seed: int = 0
    batch_size: int = 32

    @cached_property
    def probabilities(self) -> FloatArray:
        """(N, classes) of the images as they are."""
        return self.ask(self.model.probabilities, self.images.images, "images as they are")

    @cached_property
    def average(self) -> Tensor:
        """(1, 1, H, W), the mean of all images: what a place looks like when nothing is known."""
        return self.images.images.mean(0, keepdim=True)

    @property
    def grey(self) -> float:
        """The mean of the average image, to cover what is to be hidden."""
        return float(self.average.mean())

    def ask(self, answer: Answer, images: Tensor, what: str) -> FloatArray:
        """The model's answer to any number of images, in batches, with a progress bar."""
        steps = range(0, len(images), self.batch_size)
        bar = tqdm(steps, desc=what, unit="batch", disable=None, leave=False)
        return np.concatenate([answer(images[start : start + self.batch_size]) for start in bar])

    def bootstrap(self, rows: IntArray | None = None) -> PatientBootstrap:
        """Resamples of the patients of all images, or of these rows."""
        patients = self.images.patients if rows is None else self.images.patients[rows]
        numbers = np.unique(patients, return_inverse=True)[1].astype(np.int64)
        return PatientBootstrap(numbers, self.resamples, self.seed)

    def rng(self) -> np.random.Generator:
        """A new generator, the same for every probe."""
        return np.random.default_rng(self.seed)

    def tile(self, images: Tensor, row: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """One image (H, W) for a picture."""
        shown: np.ndarray[tuple[int, int], np.dtype[np.float32]] = torch.as_tensor(images[row, 0]).numpy()
        return shown
