"""A training that is saved epoch by epoch: history, best network, and the state from which a killed one resumes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cxr_isnet.engine.checkpoint import damaged
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.trainer import Epoch, Trainer

_log = logging.getLogger(__name__)


class CheckpointedRun:
    """Runs a trainer and saves each of its epochs.

    Args:
        trainer: What is trained.
        directory: Where state, history and best network are saved.
        context: This process among all.
        epochs: Most epochs.
        patience: Ends after so many epochs without a lower validation loss; None for never.
        save_best: Writes the network of the moment to a file, whole or not at all.
        log_epochs: Called in the main process with the loss terms of epochs by number: of each when it is saved, and
            of all that are saved when a run is resumed, in case the last process could not log them.
    """

    def __init__(
        self,
        trainer: Trainer,
        directory: RunDirectory,
        context: DistributedContext,
        *,
        epochs: int,
        patience: int | None,
        save_best: Callable[[Path], None],
        log_epochs: Callable[[Mapping[int, Mapping[str, float]]], None],
    ) -> None:
        self._trainer = trainer
        self._directory = directory
        self._context = context
        self._epochs = epochs
        self._patience = patience
        self._save_best = save_best
        self._log_epochs = log_epochs
        self._best = (float("inf"), 0)
        self.history: list[dict[str, Any]] = []

    @property
    def best_epoch(self) -> int:
        """Epoch of the lowest validation loss, from 1; 0 before the first."""
        return self._best[1]

    def run(self, before_first: Callable[[], None] = lambda: None) -> None:
        """Trains, or resumes from the saved state; calls `before_first` unless an epoch is saved already.

        Raises:
            InputError: The saved state is damaged or another network's.
            DivergedError: A loss became NaN or infinite.
        """
        state = self._directory.load_state()
        completed = 0
        if state is None:
            before_first()
        else:
            with damaged(self._directory.state_file):
                self._trainer.restore(state["trainer"], self._directory.state_file)
                completed, self.history = int(state["epoch"]), list(state["history"])
                self._best = (float(state["best_loss"]), int(state["best_epoch"]))
                terms = {epoch: self._terms(epoch) for epoch in range(1, min(completed, self._epochs) + 1)}
            _log.info("resuming after epoch %d of %d", completed, self._epochs)
            if self._context.is_main:
                self._log_epochs(terms)
            if self._out_of_patience(completed):
                return
        self._trainer.run(self._after_epoch, completed=completed)

    def _after_epoch(self, epoch: Epoch) -> bool:
        loss = epoch.validation["loss"]
        better = loss < self._best[0]
        if better:
            self._best = (loss, epoch.number)
        self.history += [
            {"epoch": epoch.number, "split": "training", **epoch.training},
            {"epoch": epoch.number, "split": "validation", **epoch.validation},
        ]
        if self._context.is_main:
            state = {
                "epoch": epoch.number,
                "trainer": self._trainer.state(),
                "history": self.history,
                "best_loss": self._best[0],
                "best_epoch": self._best[1],
            }
            self._directory.save(state, self.history, self._save_best if better else None)
            self._log_epochs({epoch.number: self._terms(epoch.number)})
        return self._out_of_patience(epoch.number)

    def _terms(self, epoch: int) -> dict[str, float]:
        """What the history knows of an epoch, as `epoch/training/loss`."""
        return {
            f"epoch/{row['split']}/{name}": value
            for row in self.history
            if row["epoch"] == epoch
            for name, value in row.items()
            if name not in ("epoch", "split")
        }

    def _out_of_patience(self, epoch: int) -> bool:
        return self._patience is not None and epoch - self._best[1] >= self._patience
