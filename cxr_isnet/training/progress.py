"""From epoch to epoch: the history, the best network, what the folder keeps, and where a killed training goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cxr_isnet.tracking import Run
from cxr_isnet.training.distributed import Processes
from cxr_isnet.training.fitting import Epoch, Fitting
from cxr_isnet.training.run_folder import Keepable, RunFolder

_log = logging.getLogger(__name__)


class Progress:
    """Runs a fitting and keeps each of its epochs.

    Args:
        fitting: What is trained.
        folder: Where state, history and best network are kept.
        run: MLflow.
        processes: This process among all.
        epochs: Most epochs.
        patience: Ends after so many epochs without a lower validation loss; None for never.
        keepable: Makes the network of the moment ready to be kept as the best one.
    """

    def __init__(
        self,
        fitting: Fitting,
        folder: RunFolder,
        run: Run,
        processes: Processes,
        *,
        epochs: int,
        patience: int | None,
        keepable: Callable[[], Keepable],
    ) -> None:
        self._fitting = fitting
        self._folder = folder
        self._run = run
        self._processes = processes
        self._epochs = epochs
        self._patience = patience
        self._keepable = keepable
        self._best = (float("inf"), 0)
        self.history: list[dict[str, Any]] = []

    @property
    def best_epoch(self) -> int:
        """Epoch of the lowest validation loss, from 1; 0 before the first."""
        return self._best[1]

    def run(self, before_first: Callable[[], None] = lambda: None) -> None:
        """Trains, or goes on where the folder's state says; `before_first` is called unless an epoch is kept already.

        Raises:
            InputError: The folder's state is damaged or another network's.
            DivergedError: A loss became NaN or infinite.
        """
        state = self._folder.load_state()
        completed = 0
        if state is None:
            before_first()
        else:
            self._fitting.restore(state["fitting"], self._folder.state_file)
            completed, self.history = state["epoch"], state["history"]
            self._best = (state["best_loss"], state["best_epoch"])
            _log.info("going on after epoch %d of %d", completed, self._epochs)
            if self._out_of_patience(completed):
                return
        self._fitting.run(self._after_epoch, completed=completed)

    def _after_epoch(self, epoch: Epoch) -> bool:
        loss = epoch.validation["loss"]
        better = loss < self._best[0]
        if better:
            self._best = (loss, epoch.number)
        self.history += [
            {"epoch": epoch.number, "split": "training", **epoch.training},
            {"epoch": epoch.number, "split": "validation", **epoch.validation},
        ]
        if self._processes.is_main:
            terms = {f"training.{k}": v for k, v in epoch.training.items()}
            self._run.log_metrics(terms | {f"validation.{k}": v for k, v in epoch.validation.items()}, epoch.number)
            state = {
                "epoch": epoch.number,
                "fitting": self._fitting.state(),
                "history": self.history,
                "best_loss": self._best[0],
                "best_epoch": self._best[1],
            }
            self._folder.save(state, self.history, self._keepable() if better else None)
        return self._out_of_patience(epoch.number)

    def _out_of_patience(self, epoch: int) -> bool:
        return self._patience is not None and epoch - self._best[1] >= self._patience
