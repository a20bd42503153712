"""One training step and one validation step, as MONAI engines call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from cxr_isnet.errors import DivergedError
from cxr_isnet.objectives import Batch, check_batch


def to_device(batch: Mapping[str, Any], device: torch.device) -> Batch:
    """The tensors of a batch on `device`, without the texts; raises `InputError` if they do not fit together."""
    image, mask, has_mask, label, site = (
        batch[key].to(device, non_blocking=True) for key in ("image", "mask", "has_mask", "label", "site")
    )
    tensors = Batch(image=image, mask=mask, has_mask=has_mask, label=label, site=site)
    check_batch(tensors)
    return tensors


class TrainingStep:
    """Forward, check, backward, clip, move: the iteration of a MONAI `SupervisedTrainer`."""

    def __init__(self, scheduler: LRScheduler, clip: float, bf16: bool) -> None:
        self._scheduler = scheduler
        self._clip = clip
        self._bf16 = bf16

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, float]:
        device = engine.state.device
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            terms = engine.network(to_device(batch, device))
        scalars = scalar_terms(terms)
        _check_finite(scalars, batch, f"epoch {engine.state.epoch}")
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self._clip)
        if not torch.isfinite(norm):
            raise DivergedError(_message("gradient norm", float(norm), batch, f"epoch {engine.state.epoch}"))
        engine.optimizer.step()
        self._scheduler.step()
        return scalars


class ValidationStep:
    """The iteration of a MONAI `SupervisedEvaluator`. Loss terms, the number of images, and, where the objective
    classifies, for each image label and probabilities. Gradients are off, unless the objective needs them."""

    def __init__(self, bf16: bool) -> None:
        self._bf16 = bf16

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        device = engine.state.device
        engine.network.eval()
        with (
            torch.set_grad_enabled(engine.network.needs_gradients),
            torch.autocast(device.type, torch.bfloat16, enabled=self._bf16),
        ):
            terms = engine.network(to_device(batch, device))
        scalars = scalar_terms(terms)
        _check_finite(scalars, batch, "validation")
        output = {"terms": scalars, "images": len(batch["image"])}
        if "logits" in terms:
            output |= {"label": batch["label"], "probability": terms["logits"].detach().float().softmax(1).cpu()}
        return output


def scalar_terms(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The scalars among an objective's terms, as numbers."""
    return {key: float(value.detach()) for key, value in terms.items() if value.dim() == 0}


def _check_finite(scalars: Mapping[str, float], batch: Mapping[str, Any], when: str) -> None:
    for name, value in scalars.items():
        if value != value or abs(value) == float("inf"):
            raise DivergedError(_message(f"term '{name}'", value, batch, when))


def _message(what: str, value: float, batch: Mapping[str, Any], when: str) -> str:
    files = "\n  ".join(batch["path"])
    return (
        f"{what} is {value} in {when}. Lower the learning rate, or raise the loss's GWRP decay; the last whole "
        f"epoch is kept. The batch's files:\n  {files}"
    )
