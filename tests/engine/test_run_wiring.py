"""What a run keeps, logs and compares: epochs, the directory, checkpoints that are read for use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from cxr_isnet.engine.checkpoint import load_network, load_state, save_state
from cxr_isnet.engine.checkpointed_run import CheckpointedRun
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.trainer import Epoch
from cxr_isnet.errors import InputError, is_of_the_disk
from cxr_isnet.files import new_folder

CPU = torch.device("cpu")
SETTINGS = {"seed": 0, "device": "cpu", "output": "a", "resume": False, "register": None, "tracking": {"uri": "x"}}


class Losses:
    """In place of a trainer: epochs of given validation losses."""

    def __init__(self, *losses: float) -> None:
        self._losses = losses
        self.started: list[int] = []

    def run(self, after_epoch: Callable[[Epoch], bool], *, completed: int = 0) -> None:
        self.started.append(completed)
        for number in range(completed + 1, len(self._losses) + 1):
            if after_epoch(Epoch(number, {"loss": 10.0 * number}, {"loss": self._losses[number - 1], "auc": 0.5})):
                return

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any], source: Path) -> None:
        pass


Logged = list[tuple[int, Mapping[str, float]]]


def kept(folder: Path, *losses: float, rank: int = 0, patience: int | None = None) -> tuple[CheckpointedRun, Logged]:
    """A run of epochs of these losses, whose best network is the number of the network; and what it logged."""
    logged: Logged = []
    run = CheckpointedRun(
        Losses(*losses),
        RunDirectory(folder),
        DistributedContext(rank, 1, CPU),
        epochs=len(losses),
        patience=patience,
        save_best=lambda path: path.write_text(str(len(run.history) // 2)),
        log_epochs=lambda epochs: logged.extend(epochs.items()),
    )
    run.run()
    return run, logged


def test_every_epoch_is_logged_under_its_number_with_the_terms_of_training_and_validation(tmp_path: Path) -> None:
    _, logged = kept(tmp_path, 3.0, 2.0)

    assert logged == [
        (1, {"epoch/training/loss": 10.0, "epoch/validation/loss": 3.0, "epoch/validation/auc": 0.5}),
        (2, {"epoch/training/loss": 20.0, "epoch/validation/loss": 2.0, "epoch/validation/auc": 0.5}),
    ]


def test_other_processes_log_nothing(tmp_path: Path) -> None:
    _, logged = kept(tmp_path, 3.0, 2.0, rank=1)

    assert logged == []
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_no_better_does_not_replace_the_best(tmp_path: Path) -> None:
    run, _ = kept(tmp_path, 3.0, 1.0, 2.0, 1.0)

    assert run.best_epoch == 2
    assert (tmp_path / "best.pt").read_text() == "2"


def test_a_run_that_goes_on_remembers_its_best_and_its_history(tmp_path: Path) -> None:
    kept(tmp_path, 1.0, 2.0)

    run, logged = kept(tmp_path, 1.0, 2.0, 1.5)

    assert [epoch for epoch, _ in logged] == [1, 2, 3]  # the first two again, in case they were not logged
    assert run.best_epoch == 1
    assert (tmp_path / "best.pt").read_text() == "1"
    assert [row["epoch"] for row in run.history] == [1, 1, 2, 2, 3, 3]


def test_a_kill_while_an_epoch_is_kept_never_leaves_a_state_without_its_network(tmp_path: Path) -> None:
    """The state says which epoch is the best, so its network has to be there first."""

    def fail(path: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        RunDirectory(tmp_path).save({"trainer": {}}, [{"epoch": 1}], fail)

    assert RunDirectory(tmp_path).load_state() is None


@pytest.fixture
def begun(tmp_path: Path) -> RunDirectory:
    """A directory whose run has begun, on one manifest."""
    (tmp_path / "manifest.csv").write_text("image\n")
    directory = RunDirectory(tmp_path / "run")
    directory.begin(SETTINGS, [str(tmp_path / "manifest.csv")], "an id", "sqlite:///a.db")
    return directory


def reopened(directory: RunDirectory, **changes: Any) -> RunDirectory:
    return RunDirectory.open(str(directory.path), SETTINGS | changes, [], resume=True)


def test_a_run_may_go_on_on_another_device_elsewhere_and_tracked_otherwise(begun: RunDirectory) -> None:
    changes = {"device": "cuda", "output": "b", "resume": True, "register": "lungs", "tracking": {"uri": "y"}}

    assert reopened(begun, **changes) == begun


@pytest.mark.parametrize("changes", [{"seed": 1}, {"data": {"device": 1}}, {"optimizer": {"output": "b"}}])
def test_any_other_setting_has_to_be_the_same(changes: dict[str, Any], begun: RunDirectory) -> None:
    with pytest.raises(InputError, match="with its own settings"):
        reopened(begun, **changes)


def test_a_run_that_goes_on_is_the_same_run_and_keeps_what_it_began_with(begun: RunDirectory, tmp_path: Path) -> None:
    files = {file: file.read_bytes() for file in (begun.config_file, begun.manifests_file)}
    (tmp_path / "manifest.csv").write_text("image\na.png\n")

    begun.begin(SETTINGS | {"device": "cuda"}, [str(tmp_path / "manifest.csv")], "another id", "sqlite:///b.db")

    assert {file: file.read_bytes() for file in files} == files
    assert yaml.safe_load(begun.config_file.read_text()) == SETTINGS
    assert begun.run_id() == "another id"
    assert json.loads((begun.path / "run.json").read_text())["tracking_uri"] == "sqlite:///b.db"
    assert RunDirectory(tmp_path / "nowhere").run_id() is None


def test_no_file_of_a_run_holds_the_password_of_its_store(tmp_path: Path) -> None:
    uri = "https://ann:s3cret@mlflow.example/"
    settings = SETTINGS | {"tracking": {"uri": uri}}
    directory = RunDirectory(tmp_path / "run")

    directory.begin(settings, [], "an id", uri)

    files = [file.read_text() for file in directory.path.iterdir()]
    assert len(files) == 3
    assert "s3cret" not in "".join(files)
    assert RunDirectory.open(str(directory.path), settings, [], resume=True) == directory


def test_a_network_that_is_read_for_use_is_on_the_device_and_in_evaluation_mode(tmp_path: Path) -> None:
    weights = nn.Linear(2, 1).state_dict()

    found = load_network(
        nn.Sequential(nn.Linear(2, 1), nn.Dropout()),
        {f"0.{k}": v for k, v in weights.items()},
        tmp_path / "best.pt",
        "meta",
    )

    assert not any(module.training for module in found.modules())
    assert {str(weight.device) for weight in found.parameters()} == {"meta"}


def test_a_checkpoint_of_the_format_before_is_still_read(tmp_path: Path) -> None:
    torch.save({"format": 1, "epoch": 3}, tmp_path / "old.pt")

    assert load_state(tmp_path / "old.pt")["epoch"] == 3


def test_an_epoch_is_saved_before_it_is_logged(tmp_path: Path) -> None:
    class TrackingFailed(Exception):
        pass

    def fail(epochs: object) -> None:
        raise TrackingFailed

    run = CheckpointedRun(
        Losses(1.0),
        RunDirectory(tmp_path),
        DistributedContext(0, 1, CPU),
        epochs=1,
        patience=None,
        save_best=lambda path: path.write_text("best"),
        log_epochs=fail,
    )
    with pytest.raises(TrackingFailed):
        run.run()

    assert {"best.pt", "last.pt", "history.csv"} <= {file.name for file in tmp_path.iterdir()}


def test_a_directory_is_trained_into_by_one_process_at_a_time(tmp_path: Path) -> None:
    code = "from cxr_isnet.engine import RunDirectory; from pathlib import Path; import sys, time\n"
    code += "with RunDirectory(Path(sys.argv[1])).held(): print(flush=True); time.sleep(60)"
    directory = RunDirectory(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", code, str(directory.path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match="run: another process is writing to it"), directory.held():
            pass
        other.kill()

    with directory.held():  # one that was killed holds nothing
        pass
    assert not directory.path.exists()


def test_a_directory_that_another_command_fills_meanwhile_is_not_begun_in(tmp_path: Path) -> None:
    """Commands that take minutes and write at their end, as `evaluate`, hold the folder by a lock in it."""
    directory = RunDirectory.open(str(tmp_path / "run"), SETTINGS, [], resume=False)
    with new_folder(str(tmp_path / "run")) as folder:
        (folder / "report.html").write_text("")
        with pytest.raises(InputError, match="another process is writing to it"):
            directory.begin(SETTINGS, [], "", "")

    with pytest.raises(InputError, match="is not empty any more: name another folder"):
        directory.begin(SETTINGS, [], "", "")

    assert not directory.config_file.exists()


def test_a_run_may_go_on_for_more_epochs_and_is_unfinished_then(begun: RunDirectory) -> None:
    begun.config_file.write_text(yaml.safe_dump(SETTINGS | {"epochs": 2}))
    begun.metrics_file.write_text("{}")

    begun.begin(SETTINGS | {"epochs": 2}, [], "an id", "x")
    assert begun.metrics_file.is_file()
    reopened(begun, epochs=5).begin(SETTINGS | {"epochs": 5}, [], "an id", "x")

    assert not begun.metrics_file.exists()
    assert yaml.safe_load(begun.config_file.read_text())["epochs"] == 5
    with pytest.raises(InputError, match="a training of 5 epochs, not 4: one is resumed with as many or more"):
        reopened(begun, epochs=4)


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says "PytorchStreamWriter failed writing file"; safetensors hides the cause too."""

    def fail(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        save_state(tmp_path / "a.pt", {})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30, 0))
    with pytest.raises(OSError, match="No space left on device") as found:
        save_state(tmp_path / "a.pt", {})

    assert is_of_the_disk(found.value)
    assert found.value.filename == str(tmp_path / "a.pt")
