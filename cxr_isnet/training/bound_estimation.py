"""Estimation of the bounds of the foreground loss, on a plainly trained classifier, before a training begins."""

from __future__ import annotations

import copy
import logging
import sys
from dataclasses import replace
from typing import Any

import torch
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cxr_isnet.engine import DistributedContext, Trainer, TrainerSettings, to_device
from cxr_isnet.objectives import CrossEntropy, Objective

_log = logging.getLogger(__name__)


def estimate_bounds(
    objective: Objective,
    training: DataLoader[Any],
    every_image: DataLoader[Any],
    validation: DataLoader[Any],
    settings: TrainerSettings,
    context: DistributedContext,
) -> dict[str, float]:
    """Trains the network with cross-entropy for `bound_estimation_epochs`, measures the training set, and puts
    the first weights back.

    Measuring uses frozen weights, unlike the reference, whose weights move meanwhile, and batch statistics of the whole
    training set. Running averages lag behind the weights after so few steps: EfficientNet's maps came out 100,000 times
    too small, and the foreground loss exploded.

    Args:
        objective: Has its bounds set when this returns.
        training: Shuffled loader of the training set.
        every_image: Loader of the whole training set, without random changes.
        validation: In-domain loader.
        settings: Of the run; the plain training shares them but for its epochs.
        context: This process among all.

    Returns:
        The bounds by name; empty where none are estimated.
    """
    if objective.bound_estimation_epochs == 0:
        return {}
    epochs = objective.bound_estimation_epochs
    _log.info("bound estimation: %d epochs of plain training, then the training set is measured once", epochs)
    objective.to(context.device)
    first_weights = copy.deepcopy(objective.network.state_dict())
    plain = CrossEntropy(objective.network)
    trainer = Trainer(plain, training, validation, replace(settings, epochs=epochs), context)
    trainer.run(lambda epoch: False)
    update_bn((to_device(batch, context.device)["image"] for batch in training), objective.network)
    context.synchronise_buffers(objective)
    objective.eval()
    with torch.no_grad():
        for batch in tqdm(every_image, desc="measuring", disable=not (context.is_main and sys.stderr.isatty())):
            objective.measure(to_device(batch, context.device))
    objective.network.load_state_dict(first_weights)
    bounds = objective.finish_estimation()
    _log.info("bounds: %s", " ".join(f"{key}={value:.4g}" for key, value in bounds.items()))
    return bounds
