"""A training that was killed and goes on, where `test_experiment` does not look: mid-epoch, while cuts are measured,
for real; and a folder that cannot be gone on with."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from mlflow import MlflowClient

from cxr_isnet.config import as_plain
from cxr_isnet.engine import RunDirectory, run_directory
from cxr_isnet.engine.checkpoint import load_state, save_state
from cxr_isnet.engine.settings import OptimizerConfig
from cxr_isnet.engine.steps import TrainingStep
from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.isnet import ISNet
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train
from tests.checkpoints import Killed, assert_same

ISNET = {"method": "isnet", "epochs": 1, "optimizer": OptimizerConfig(average=0.9)}

pytestmark = pytest.mark.usefixtures("unevaluated")


def final_state(config: TrainConfig) -> dict:
    train(config)
    return load_state(Path(config.output) / "last.pt")


def killed_and_resumed(config: TrainConfig) -> dict:
    with pytest.raises(Killed):
        train(config)
    return final_state(replace(config, resume=True))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_whole_state_comes_out_the_same(make_config, kill_at):
    changes = ISNET | {"epochs": 2}
    whole = final_state(make_config("whole", **changes))
    kill_at(run_directory.RunDirectory, "save", 1)

    resumed = killed_and_resumed(make_config("killed", **changes))

    assert_same(whole, resumed)


def test_a_kill_between_the_files_of_an_epoch_repeats_that_epoch(make_config, kill_at):
    whole = final_state(make_config("whole"))
    kill_at(run_directory, "save_state", 2, before=True)

    resumed = killed_and_resumed(make_config("killed"))

    assert_same(whole, resumed)
    assert files(Path(make_config("whole").output)) == files(Path(make_config("killed").output))


def test_a_kill_while_the_cuts_are_measured_begins_anew(make_config, kill_at):
    whole = final_state(make_config("whole", **ISNET))
    kill_at(ISNet, "measure", 2)

    resumed = killed_and_resumed(make_config("killed", **ISNET))

    assert_same(whole, resumed)


def test_several_kills_do_no_more_than_one(make_config, kill_at):
    whole = final_state(make_config("whole", epochs=3))
    config = make_config("killed", epochs=3)
    kill_at(run_directory.RunDirectory, "save", 1)
    with pytest.raises(Killed):
        train(config)
    kill_at(run_directory.RunDirectory, "save", 1)

    resumed = killed_and_resumed(replace(config, resume=True))

    assert_same(whole, resumed)


def test_a_finished_training_that_is_resumed_trains_no_further(make_config):
    config = make_config(epochs=1)
    finished = final_state(config)

    assert_same(finished, final_state(replace(config, resume=True)))


def test_without_resume_a_killed_training_says_how_to_go_on(make_config, kill_at):
    config = make_config()
    kill_at(run_directory.RunDirectory, "save", 1)
    with pytest.raises(Killed):
        train(config)
    before = {path: path.stat().st_mtime_ns for path in Path(config.output).iterdir()}

    with pytest.raises(InputError, match="is not empty: add --resume true to resume"):
        train(config)

    assert {path: path.stat().st_mtime_ns for path in Path(config.output).iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, "seed=0, not 5"),
        ({"network": NetworkConfig("densenet_tiny")}, "network.dropout=0.2, not 0.0"),
        ({"optimizer": OptimizerConfig(clip=2.0)}, "optimizer.clip=1.0, not 2.0"),
        ({"data": {"classes": ["tuberculosis", "normal"]}}, "data.classes=.*'normal', 'tuberculosis'.*, not"),
    ],
)
def test_a_training_goes_on_with_its_own_settings_only(make_config, changes, message):
    train(make_config(epochs=1))

    with pytest.raises(InputError, match=message):
        train(make_config(epochs=1, resume=True, **changes))


def test_more_epochs_go_on_with_the_learning_rate_of_a_schedule_over_all_of_them(make_config):
    config = make_config(epochs=2)
    train(config)

    state = final_state(replace(config, epochs=4, resume=True))

    assert state["epoch"] == 4
    assert [row["epoch"] for row in state["history"] if row["split"] == "training"] == [1, 2, 3, 4]
    assert state["trainer"]["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-9)
    assert yaml.safe_load((Path(config.output) / "config.yaml").read_text())["epochs"] == 4


def test_the_rate_of_the_first_step_of_more_epochs_is_that_of_the_longer_schedule(make_config, monkeypatch):
    """The optimiser's saved rate is that of the shorter schedule's end: 0."""
    config = make_config(epochs=1)
    train(config)
    rates = []
    step = TrainingStep.__call__
    monkeypatch.setattr(
        TrainingStep,
        "__call__",
        lambda self, engine, batch: rates.append(engine.optimizer.param_groups[0]["lr"]) or step(self, engine, batch),
    )

    train(replace(config, epochs=2, resume=True))

    steps = 2 * len(rates)
    expected = [0.5e-3 * (1 + math.cos(math.pi * (k - 1) / (steps - 1))) for k in range(len(rates), steps)]
    assert rates == pytest.approx(expected)


def test_a_training_goes_on_with_its_own_tables_only(make_config, phantom_table, tmp_path):
    manifest = tmp_path / "manifest.csv"
    phantom_table.to_csv(manifest, index=False)
    config = make_config(epochs=1, data={"training": [str(manifest)]})
    train(config)
    phantom_table[::-1].to_csv(manifest, index=False)

    with pytest.raises(InputError, match=r"manifest\.csv: changed since the training in output .* restore the table"):
        train(replace(config, resume=True))


def test_there_has_to_be_something_to_resume(make_config):
    config = make_config(resume=True)

    with pytest.raises(InputError, match="holds no training to resume: leave out --resume"):
        train(config)

    assert not Path(config.output).exists()


def test_a_foreign_folder_is_not_resumed(make_config):
    config = make_config(resume=True)
    Path(config.output).mkdir()
    (Path(config.output) / "letter.txt").write_text("dear reader")

    with pytest.raises(InputError, match="no training to resume: name another folder"):
        train(config)

    assert files(Path(config.output)) == {"letter.txt"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda folder: b"PK\x03\x04 half a file", r"last\.pt: damaged, or no checkpoint"),
        (lambda folder: (folder / "best.pt").read_bytes(), r"last\.pt: not the state of a training"),
    ],
)
def test_a_damaged_state_is_reported(make_config, content: Callable[[Path], bytes], message):
    config = make_config(epochs=1)
    train(config)
    folder = Path(config.output)
    (folder / "last.pt").write_bytes(content(folder))

    with pytest.raises(InputError, match=message):
        train(replace(config, resume=True))


@pytest.mark.parametrize("content", ["epochs: [", "- a list", "", "\xff"])
def test_settings_that_were_damaged_are_reported_with_their_file(make_config, content):
    config = make_config()
    RunDirectory(Path(config.output)).begin({"epochs": 1}, [], "", "")
    file = Path(config.output) / "config.yaml"
    file.write_text(content, encoding="latin-1")

    with pytest.raises(InputError, match=r"config\.yaml") as error:
        train(replace(config, resume=True))

    assert file.read_text(encoding="latin-1") == content
    assert "settings of a training" in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifests.json", ""),
        ("manifests.json", "[]"),
        ("manifests.json", '{"sha256": 3}'),
        ("manifests.json", "{}"),
        ("config.yaml", "epochs: ten"),
    ],
)
def test_what_was_begun_with_is_reported_where_it_was_damaged(tmp_path, file, content):
    RunDirectory(tmp_path).begin({"epochs": 1}, [], "", "")
    (tmp_path / file).write_text(content)

    with pytest.raises(InputError, match=rf"{file}: damaged, or of another version .*Restore the file"):
        RunDirectory.open(str(tmp_path), {"epochs": 1}, [], resume=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", "first"),
        ("history", [{"split": "training"}]),
        ("best_loss", None),
        ("scheduler", {"last_epoch": "first"}),
        ("scheduler", {"base_lrs": [0.1, 0.2, 0.3]}),
        ("optimizer", {}),
    ],
)
def test_a_state_with_other_content_is_reported_before_it_is_trained_on(make_config, key, value):
    config = make_config(epochs=1)
    train(config)
    file = Path(config.output) / "last.pt"
    state = load_state(file)
    where = state if key in state else state["trainer"]
    where[key] = {**where[key], **value} if value and isinstance(value, dict) else value
    save_state(file, state)

    with pytest.raises(InputError, match=r"last\.pt: damaged, or of another version"):
        train(replace(config, resume=True, epochs=2))


def test_a_training_that_an_older_version_began_is_not_resumed(make_config):
    config = make_config(epochs=1)
    train(config)
    state = Path(config.output) / "last.pt"
    torch.save({**torch.load(state, weights_only=True), "format": 2}, state)

    with pytest.raises(InputError, match=r"last\.pt: of a training that an older version began"):
        train(replace(config, resume=True))


def test_the_state_of_another_network_is_reported(make_config):
    config, other = make_config(epochs=1), make_config("other", epochs=1, network=NetworkConfig("densenet_small"))
    train(config)
    train(other)
    (Path(other.output) / "last.pt").replace(Path(config.output) / "last.pt")

    with pytest.raises(InputError, match=r"last\.pt: the checkpoint is of another network: .*Give the network"):
        train(replace(config, resume=True))


@pytest.mark.slow
def test_a_process_that_is_killed_for_real_goes_on(make_config, tmp_path):
    changes = ISNET | {"epochs": 12}
    config = make_config("killed", **changes)
    folder = Path(config.output)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_plain(config)))
    command = [sys.executable, "-m", "cxr_isnet", "train", "--config", str(tmp_path / "config.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not (folder / "last.pt").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert load_state(folder / "last.pt")["epoch"] < 12
    subprocess.run([*command, "--resume", "true"], env=environment, check=True, stderr=subprocess.DEVNULL)

    assert_same(final_state(make_config("whole", **changes)), load_state(folder / "last.pt"))


@pytest.mark.slow
def test_sigterm_ends_a_training_with_one_line_and_its_run_killed(make_config, tmp_path):
    tracking = TrackingConfig(f"sqlite:///{tmp_path}/mlflow.db")
    config = make_config("stopped", epochs=50, tracking=tracking)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_plain(config)))
    command = [sys.executable, "-m", "cxr_isnet", "train", "--config", str(tmp_path / "config.yaml")]

    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    while not (Path(config.output) / "last.pt").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=120)

    assert process.returncode == 143
    assert said.splitlines()[-1] == "cxr-isnet: interrupted; to go on, give the same command with --resume true"
    assert "Traceback" not in said
    run_id = RunDirectory(Path(config.output)).run_id()
    assert MlflowClient(tracking.uri).get_run(run_id).info.status == "KILLED"
