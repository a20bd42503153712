"""One training step and one validation step, as MONAI engines call them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from cxr_isnet.errors import DivergedError
from cxr_isnet.objectives import Batch, check_batch

GRADIENT_NORM = "gradient norm"


def to_device(batch: Mapping[str, Any], device: torch.device) -> Batch:
    """The tensors of a batch on `device`, without the texts; raises `InputError` if they do not fit together."""
    image, mask, has_mask, label, site = (
        batch[key].to(device, non_blocking=True) for key in ("image", "mask", "has_mask", "label", "site")
    )
    tensors = Batch(image=image, mask=mask, has_mask=has_mask, label=label, site=site)
    check_batch(tensors)
    return tensors


class PendingTerms:
    """Scalar terms of steps, which stay on the device until they are fetched, all together.

    To ask a GPU for a number waits until it has done all that it was given to do; asked in each step, it stands idle
    while the next step is prepared.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[tuple[str, ...], Tensor, Sequence[str]]] = []

    def __len__(self) -> int:
        """Steps whose terms have not been fetched."""
        return len(self._steps)

    def add(self, terms: Mapping[str, Tensor], files: Sequence[str]) -> None:
        """Takes the terms (scalars) of a step, and the files of its batch."""
        values = torch.stack([value.detach().to(torch.float64) for value in terms.values()])
        self._steps.append((tuple(terms), values, files))

    def fetch(self, when: str) -> list[dict[str, float]]:
        """The terms of all steps since the last time, in order.

        Args:
            when: The steps' part of the training, for the message.

        Raises:
            DivergedError: A term is NaN or infinite; names the files of the first such batch.
        """
        steps, self._steps = self._steps, []
        values = iter(torch.cat([tensor for _, tensor, _ in steps]).tolist() if steps else ())
        found = [{name: next(values) for name in names} for names, _, _ in steps]
        for terms, (_, _, files) in zip(found, steps, strict=True):
            for name, value in terms.items():
                if not math.isfinite(value):
                    raise DivergedError(_message(name, value, files, when))
        return found


class TrainingStep:
    """Forward, backward, clip, check, move: the iteration of a MONAI `SupervisedTrainer`.

    Args:
        scheduler: Of the learning rate.
        clip: Largest norm of the gradient.
        bf16: Runs the forward pass in bf16, where the objective lets it.
        fetch_every: Steps after which their terms are fetched and checked, before the last of them moves the weights.
            What a later check finds has moved them, but an epoch is only saved when all its steps have been checked.
    """

    def __init__(self, scheduler: LRScheduler, clip: float, bf16: bool, fetch_every: int = 1) -> None:
        self._scheduler = scheduler
        self._clip = clip
        self._bf16 = bf16
        self._fetch_every = fetch_every
        self._pending = PendingTerms()
        self._fetched: list[dict[str, float]] = []

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, float]:
        """The step; returns the last terms that have been fetched."""
        device = engine.state.device
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            terms = engine.network(to_device(batch, device))
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self._clip)
        self._pending.add({**scalar_terms(terms), GRADIENT_NORM: norm}, batch["path"])
        if len(self._pending) >= self._fetch_every:
            self._fetch(engine.state.epoch)
        engine.optimizer.step()
        self._scheduler.step()
        return self._fetched[-1] if self._fetched else {}

    def terms(self, epoch: int) -> list[dict[str, float]]:
        """The terms of all steps since the last time, in order.

        Raises:
            DivergedError: One is NaN or infinite.
        """
        self._fetch(epoch)
        found, self._fetched = self._fetched, []
        return found

    def _fetch(self, epoch: int) -> None:
        steps = self._pending.fetch(f"epoch {epoch}")
        self._fetched += [{name: v for name, v in terms.items() if name != GRADIENT_NORM} for terms in steps]


class ValidationStep:
    """The iteration of a MONAI `SupervisedEvaluator`, which takes the loss terms to `pending`. Returns the number of
    images, and, where the objective classifies, for each image label and probabilities. Gradients are off, unless the
    objective needs them."""

    def __init__(self, bf16: bool) -> None:
        self._bf16 = bf16
        self.pending = PendingTerms()

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        device = engine.state.device
        engine.network.eval()
        with (
            torch.set_grad_enabled(engine.network.needs_gradients),
            torch.autocast(device.type, torch.bfloat16, enabled=self._bf16),
        ):
            terms = engine.network(to_device(batch, device))
        self.pending.add(scalar_terms(terms), batch["path"])
        output = {"images": len(batch["image"])}
        if "logits" in terms:
            output |= {"label": batch["label"], "probability": terms["logits"].detach().float().softmax(1)}
        return output


def scalar_terms(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scalars among an objective's terms."""
    return {key: value for key, value in terms.items() if value.dim() == 0}


def _message(name: str, value: float, files: Sequence[str], when: str) -> str:
    what = name if name == GRADIENT_NORM else f"term '{name}'"
    listed = "\n  ".join(files)
    return (
        f"{what} is {value} in {when}. Lower the learning rate, or raise the loss's GWRP decay; the last whole "
        f"epoch is kept. The batch's files:\n  {listed}"
    )
