"""The tuning phase: what an objective has to measure on a plainly trained classifier before its own training begins."""

from __future__ import annotations

import copy
import logging
import sys
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from cxr_isnet.objectives.cross_entropy import CrossEntropy
from cxr_isnet.objectives.objective import Objective
from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.distributed import Processes
from cxr_isnet.training.fitting import Fitting
from cxr_isnet.training.steps import to_device

_log = logging.getLogger(__name__)


def tune(
    objective: Objective,
    training: DataLoader[Any],
    every_image: DataLoader[Any],
    validation: DataLoader[Any],
    config: TrainConfig,
    processes: Processes,
) -> dict[str, float]:
    """Trains the objective's network with cross-entropy for its `tuning_epochs`, measures, and puts the first weights
    back.

    Measuring uses frozen weights and the running batch statistics, unlike the reference, whose weights move meanwhile.

    Args:
        objective: Has its tuned values set when this returns.
        training: Shuffled loader of the training set.
        every_image: Loader of the whole training set, without random changes.
        validation: In-domain loader.
        config: The run; the plain training shares its optimiser settings.
        processes: This process among all.

    Returns:
        What was tuned, by name; empty where nothing is to be tuned.
    """
    if objective.tuning_epochs == 0:
        return {}
    _log.info("tuning: %d epochs of plain training, then the training set is measured once", objective.tuning_epochs)
    objective.to(processes.device)
    first_weights = copy.deepcopy(objective.network.state_dict())
    plain = CrossEntropy(objective.network)
    fitting = Fitting(plain, training, validation, config, processes, objective.tuning_epochs)
    fitting.run(lambda epoch: False)
    processes.synchronise_buffers(objective)
    objective.eval()
    with torch.no_grad():
        for batch in tqdm(every_image, desc="measuring", disable=not (processes.is_main and sys.stderr.isatty())):
            objective.measure(to_device(batch, processes.device))
    objective.network.load_state_dict(first_weights)
    tuned = objective.finish_tuning()
    _log.info("tuned: %s", " ".join(f"{key}={value:.4g}" for key, value in tuned.items()))
    return tuned
