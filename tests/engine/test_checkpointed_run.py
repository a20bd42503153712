"""What is kept of each epoch, shown by a trainer that trains nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr_isnet.engine.checkpointed_run import CheckpointedRun
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.trainer import Epoch

LOSSES = [3.0, 1.0, 2.0, 2.0, 0.5]


class TellingFitting:
    """Tells made-up validation losses; its state is the number of epochs it has run."""

    def __init__(self) -> None:
        self.done = 0

    def run(self, after_epoch: Callable[[Epoch], bool], *, completed: int = 0) -> None:
        for number in range(completed + 1, len(LOSSES) + 1):
            self.done = number
            if after_epoch(Epoch(number, {"loss": 9.0}, {"loss": LOSSES[number - 1]})):
                return

    def state(self) -> dict[str, Any]:
        return {"done": self.done}

    def restore(self, state: dict[str, Any], source: Path) -> None:
        self.done = state["done"]


class Note:
    """Kept as a text: the epoch it is of."""

    def __init__(self, trainer: TellingFitting) -> None:
        self.epoch = trainer.done

    def save(self, path: Path) -> None:
        path.write_text(str(self.epoch))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., CheckpointedRun]:
    def progress(*, patience: int | None = None, rank: int = 0) -> CheckpointedRun:
        trainer = TellingFitting()
        return CheckpointedRun(
            trainer,
            RunDirectory(tmp_path),
            DistributedContext(rank, 2, torch.device("cpu")),
            epochs=len(LOSSES),
            patience=patience,
            save_best=lambda path: Note(trainer).save(path),
            log_epochs=lambda epochs: None,
        )

    return progress


def test_the_epoch_of_the_lowest_validation_loss_is_the_one_that_is_kept(make, tmp_path):
    progress = make()

    progress.run()

    assert progress.best_epoch == 5
    assert (tmp_path / "best.pt").read_text() == "5"
    validation = [row["loss"] for row in progress.history if row["split"] == "validation"]
    assert validation == LOSSES


def test_it_ends_after_so_many_epochs_without_a_lower_loss_and_does_not_go_on_from_there(make, tmp_path):
    ended = make(patience=2)
    ended.run()
    again = make(patience=2)
    again.run()

    for progress in (ended, again):
        assert progress.best_epoch == 2
        assert progress.history[-1]["epoch"] == 4
    assert (tmp_path / "best.pt").read_text() == "2"


def test_what_comes_before_the_first_epoch_comes_once(make):
    calls: list[str] = []
    make(patience=1).run(lambda: calls.append("first"))

    goes_on = make()
    goes_on.run(lambda: calls.append("again"))

    assert calls == ["first"]
    assert [row["epoch"] for row in goes_on.history if row["split"] == "validation"] == [1, 2, 3, 4, 5]


def test_other_processes_write_nothing(make, tmp_path):
    make(rank=1).run()

    assert list(tmp_path.iterdir()) == []
