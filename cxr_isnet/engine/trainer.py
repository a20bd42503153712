"""Epochs of training and validation of one objective, on MONAI engines.

Whatever is random in an epoch (order, augmentation, dropout, sampled classes) depends on the seed and the epoch's
number only, so a training that is resumed after a kill ends with the weights of one that was never interrupted.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Events
from ignite.handlers import ProgressBar
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from cxr_isnet.data import set_epoch
from cxr_isnet.engine.checkpoint import damaged, load_weights
from cxr_isnet.engine.devices import return_free_memory
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.progress import LoggedProgress, duration
from cxr_isnet.engine.settings import Algorithm, OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.engine.steps import TrainingStep, ValidationStep
from cxr_isnet.errors import InputError
from cxr_isnet.objectives import Objective

_log = logging.getLogger(__name__)

FETCH_EVERY = 50
"""Steps after which the loss terms of a training on a GPU are fetched: each time it waits for the GPU."""

Metrics = Callable[[Tensor, Tensor], Mapping[str, float]]
"""Labels (N,) and probabilities (N, classes) of a validation set, on the CPU, to numbers by name."""


@dataclass(frozen=True)
class Epoch:
    """Outcome of one epoch, counted from 1: mean loss terms of training, and loss terms and metrics of validation."""

    number: int
    training: dict[str, float]
    validation: dict[str, float]


class Trainer:
    """Trains an objective epoch by epoch.

    Args:
        objective: Network and loss; trained in place.
        training: Loader made by `make_loader`.
        validation: In-domain loader, the same in all processes.
        settings: Optimiser, epochs, seed, precision.
        context: This process among all.
        metrics: Of a classifier's validation, beside its loss terms; None for none.

    Raises:
        InputError: An objective is to be compiled for several processes.
    """

    def __init__(
        self,
        objective: Objective,
        training: DataLoader[Any],
        validation: DataLoader[Any],
        settings: TrainerSettings,
        context: DistributedContext,
        metrics: Metrics | None = None,
    ) -> None:
        if settings.compile and context.count > 1:
            raise InputError(
                f"compile is true, and there are {context.count} processes: an objective is compiled for one. Set it "
                "to false, or start the training without torchrun"
            )
        self.objective = objective.to(context.device)
        self._training = training
        self._validation = validation
        self._settings = settings
        self._context = context
        self._metrics = metrics
        steps = settings.epochs * len(training)
        self.optimizer = _optimizer(objective, settings.optimizer, context.device)
        self.scheduler = LambdaLR(self.optimizer, _warmup_cosine(steps, settings.optimizer.warmup))
        self.average = _average(objective, settings.optimizer.average)

    @property
    def validated(self) -> Objective:
        """What is validated and kept: the running average of the weights if there is one, else the objective itself."""
        if self.average is None:
            return self.objective
        module = self.average.module
        assert isinstance(module, Objective)
        return module

    def run(self, after_epoch: Callable[[Epoch], bool], *, completed: int = 0) -> None:
        """Trains from epoch `completed` + 1 on.

        Args:
            after_epoch: Called with every epoch's outcome; returns whether to stop.
            completed: Epochs done before.
        """
        on_cpu = self._context.device.type == "cpu"
        step = TrainingStep(
            self.scheduler,
            self._settings.optimizer.clip,
            self._settings.precision is Precision.BF16,
            fetch_every=1 if on_cpu else FETCH_EVERY,
        )
        trainer = SupervisedTrainer(
            device=self._context.device,
            max_epochs=self._settings.epochs,
            train_data_loader=self._training,
            network=self._in_training(),
            optimizer=self.optimizer,
            loss_function=_loss_of_terms,
            iteration_update=step,
            decollate=False,
        )
        trainer.logger.setLevel(logging.WARNING)
        trainer.state.epoch = completed
        trainer.state.iteration = completed * len(self._training)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch, step, after_epoch)
        if self._context.is_main and sys.stderr.isatty():
            ProgressBar(ncols=110).attach(trainer, output_transform=lambda scalars: scalars)
        if completed < self._settings.epochs:
            with _matrix_products(self._settings.precision, self._context.device):
                trainer.run()

    def _in_training(self) -> nn.Module:
        """The objective as a step calls it. Its batches have one shape, as the loader leaves out one that is not full;
        of several, inductor would compile a graph for each."""
        if not self._settings.compile:
            return self._context.wrap(self.objective)
        on_gpu = self._context.device.type == "cuda"
        compiled = torch.compile(
            self.objective, fullgraph=True, dynamic=False, mode="reduce-overhead" if on_gpu else "default"
        )
        return cast(nn.Module, compiled)

    def state(self) -> dict[str, Any]:
        """All that moves in training, to be given to `restore`."""
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: dict[str, Any], source: Path) -> None:
        """Takes what `state` gave; raises `InputError` if it is another network's, naming `source`, its file."""
        with damaged(source):
            load_weights(self.objective, state["objective"], source)
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            for group, rate in zip(self.optimizer.param_groups, self._rates(), strict=True):
                group["lr"] = rate  # that of a schedule over the present number of epochs

    def _rates(self) -> list[float]:
        """Learning rates of the next step, by parameter group."""
        done = self.scheduler.last_epoch
        return [
            float(base) * factor(done)
            for base, factor in zip(self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True)
        ]

    def _start_epoch(self, trainer: SupervisedTrainer) -> None:
        self._begun = time.monotonic()
        images = len(self._training) * (self._training.batch_size or 1) * self._context.count
        self._progress = LoggedProgress(f"epoch {trainer.state.epoch}", images if self._context.is_main else 0)
        set_epoch(self._training, trainer.state.epoch)
        torch.manual_seed(self._settings.seed * 1_000_003 + trainer.state.epoch * 1_009 + self._context.rank)

    def _end_step(self, trainer: SupervisedTrainer) -> None:
        self._progress.advance((self._training.batch_size or 1) * self._context.count)
        if self.average is not None:
            self.average.update_parameters(self.objective)

    def _end_epoch(self, trainer: SupervisedTrainer, step: TrainingStep, after_epoch: Callable[[Epoch], bool]) -> None:
        terms = step.terms(trainer.state.epoch)
        self._context.synchronise_buffers(self.validated)
        validation = self._validate()
        return_free_memory()
        training = self._context.mean(_means(terms, [1] * len(terms)))
        epoch = Epoch(trainer.state.epoch, training, validation)
        seconds = time.monotonic() - self._begun
        images = len(terms) * (self._training.batch_size or 1) * self._context.count
        _log.info(
            "epoch %d of %d: training %s; validation %s; %.3g images/s, %s left",
            epoch.number,
            self._settings.epochs,
            _text(epoch.training),
            _text(epoch.validation),
            images / seconds,
            duration(seconds * (self._settings.epochs - epoch.number)),
        )
        if after_epoch(epoch):
            trainer.terminate()

    def _validate(self) -> dict[str, float]:
        outputs: list[dict[str, Any]] = []
        step = ValidationStep(self._settings.precision is Precision.BF16)
        evaluator = SupervisedEvaluator(
            device=self._context.device,
            val_data_loader=self._validation,
            network=self.validated,
            iteration_update=step,
            decollate=False,
        )
        evaluator.logger.setLevel(logging.WARNING)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
        evaluator.run()
        means = _means(step.pending.fetch("validation"), [o["images"] for o in outputs])
        if self._metrics is None:
            return means
        labels = torch.cat([o["label"] for o in outputs])
        probability = torch.cat([o["probability"] for o in outputs]).cpu()
        return {**means, **self._metrics(labels, probability)}


def _loss_of_terms(terms: dict[str, Tensor], label: Tensor) -> Tensor:
    return terms["loss"]


@contextmanager
def _matrix_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Lets matrix products on a GPU be in TF32 for a block, where that is chosen; then all is as before."""
    if precision is not Precision.TF32 or device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _optimizer(objective: nn.Module, config: OptimizerConfig, device: torch.device) -> Optimizer:
    if config.algorithm is Algorithm.SGD:
        return SGD(
            objective.parameters(),
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    fused = True if device.type == "cuda" else None  # None: as torch chooses
    return AdamW(objective.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=fused)


def _warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return factor


def _average(objective: nn.Module, decay: float) -> AveragedModel | None:
    if not decay:
        return None
    return AveragedModel(objective, multi_avg_fn=get_ema_multi_avg_fn(decay))


def _means(terms: list[dict[str, float]], weights: list[int]) -> dict[str, float]:
    total = sum(weights)
    return (
        {key: sum(t[key] * w for t, w in zip(terms, weights, strict=True)) / total for key in terms[0]} if terms else {}
    )


def _text(terms: dict[str, float]) -> str:
    return " ".join(f"{key}={value:.4g}" for key, value in terms.items())
