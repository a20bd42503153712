"""Registration in a real store: aliases, what is written about the decision, dry run, rollback, and two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from cxr_isnet.deployment import read_evidence, register, rollback
from cxr_isnet.errors import InputError
from cxr_isnet.tracking import open_store, registry_lock
from tests.deployment.made_runs import GATE, champion, make_run

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def client(uri: str) -> MlflowClient:
    return open_store(uri)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Of a database the numbers are int, of a server str."""
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


@pytest.fixture(scope="module")
def runs(uri: str) -> dict[str, str]:
    """Trainings by how good they are."""
    return {word: make_run(uri, strength) for word, strength in (("poor", 0.3), ("fair", 1.5), ("good", 3.0))}


def test_a_model_that_passes_is_candidate_and_champion_and_says_why(
    client: MlflowClient, runs: dict[str, str], name: str
) -> None:
    found = register(client, runs["good"], name, GATE)

    version = client.get_model_version_by_alias(name, "champion")
    assert (found.version, found.promoted) == (1, True)
    assert aliases(client, name) == {"candidate": "1", "champion": "1"}
    assert "Gate **passed**" in version.description
    assert "within_site_auc" in version.description
    assert version.description.startswith("What it is.\n\nGate ")
    assert version.tags["gate.passed"] == "true"
    assert version.tags["gate.audit"] == "passed: the audit says 'none found among those examined'"
    assert version.run_id == runs["good"]
    file = client.download_artifacts(runs["good"], f"gate/{name}-1.json")
    kept = json.loads(Path(file).read_text())
    assert kept["passed"]
    assert {check["rule"] for check in kept["checks"]} >= {"floor", "champion", "audit", "unseen data"}


def test_a_model_that_does_not_pass_is_candidate_only(client: MlflowClient, runs: dict[str, str], name: str) -> None:
    register(client, runs["good"], name, GATE)

    found = register(client, runs["fair"], name, GATE)

    assert not found.promoted
    assert aliases(client, name) == {"candidate": "2", "champion": "1"}
    version = client.get_model_version(name, "2")
    assert "not shown to be as good as" in version.tags["gate.champion"]
    assert f"compared with {name} version 1" in version.description


def test_a_better_one_replaces_the_champion_and_a_rollback_brings_it_back(
    client: MlflowClient, runs: dict[str, str], name: str
) -> None:
    assert register(client, runs["fair"], name, GATE).promoted
    assert register(client, runs["good"], name, GATE).promoted
    assert champion(client, name) == "2"

    assert rollback(client, name) == (2, 1)
    assert champion(client, name) == "1"
    assert rollback(client, name) == (1, None)
    assert champion(client, name) == ""
    with pytest.raises(InputError, match="nothing to undo"):
        rollback(client, name)


def test_a_rollback_to_a_version_that_was_deleted_is_reported(
    client: MlflowClient, runs: dict[str, str], name: str
) -> None:
    register(client, runs["fair"], name, GATE)
    register(client, runs["good"], name, GATE)
    client.delete_model_version(name, "1")

    with pytest.raises(InputError, match=r"version 1 .* was deleted"):
        rollback(client, name)
    assert champion(client, name) == "2"


def test_registering_a_run_again_gives_no_second_version(client: MlflowClient, runs: dict[str, str], name: str) -> None:
    first, again = (register(client, runs["good"], name, GATE) for _ in range(2))

    assert (first.version, again.version, again.promoted) == (1, 1, True)
    assert rollback(client, name) == (1, None)


def test_a_dry_run_decides_and_changes_nothing(client: MlflowClient, runs: dict[str, str], name: str) -> None:
    register(client, runs["fair"], name, GATE)
    artifacts = [entry.path for entry in client.list_artifacts(runs["good"], "gate")]

    found = register(client, runs["good"], name, GATE, dry_run=True)

    assert found.decision.passed
    assert (found.version, found.promoted) == (None, False)
    assert aliases(client, name) == {"candidate": "1", "champion": "1"}
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    assert [entry.path for entry in client.list_artifacts(runs["good"], "gate")] == artifacts


def test_a_model_of_another_method_is_refused(client: MlflowClient, uri: str, runs: dict[str, str], name: str) -> None:
    register(client, runs["fair"], name, GATE)
    baseline = make_run(uri, 3.0, method="cross_entropy")

    for dry_run in (True, False):
        with pytest.raises(InputError, match=r"stands for models of method isnet, and this one is of 'cross_entropy'"):
            register(client, baseline, name, GATE, dry_run=dry_run)

    assert aliases(client, name) == {"candidate": "1", "champion": "1"}
    assert register(client, baseline, f"{name}-plain", GATE).promoted


def test_what_a_run_has_not_logged_is_missing_evidence(client: MlflowClient, uri: str, name: str) -> None:
    found = register(client, make_run(uri, 3.0, external=False, audited=False), name, GATE)

    missing = {check.rule for check in found.decision.checks if check.reason.startswith("no evidence")}
    assert missing == {"external hospitals", "floor", "thumbnail", "relevance", "audit", "calibration", "unseen data"}
    assert aliases(client, name) == {"candidate": "1"}


def test_an_audit_counts_for_the_model_that_it_is_of(client: MlflowClient, uri: str) -> None:
    alone = make_run(uri, 3.0, audited=False)
    make_run(uri, 3.0)  # another model, with an audit

    assert read_evidence(client, alone, "x").audit_verdict == ""


def test_runs_that_cannot_be_registered_are_reported(client: MlflowClient, uri: str, name: str) -> None:
    running = str(client.create_run("0").info.run_id)
    without = str(client.create_run("0").info.run_id)
    client.set_terminated(without)

    for run, words in ((running, "is RUNNING"), (without, "has logged no model"), ("nothing", "there is no run")):
        with pytest.raises(InputError, match=words):
            register(client, run, name, GATE)


def test_a_lock_that_another_holds_is_waited_for_and_reported(client: MlflowClient, name: str) -> None:
    with (
        registry_lock(client, name),
        pytest.raises(InputError, match=r"delete_registered_model\('.* is being changed'\)"),
        registry_lock(client, name, seconds=0.5),
    ):
        pass

    with registry_lock(client, name, seconds=0.5):  # released, after the failure too
        pass


def test_a_lock_that_a_killed_process_left_is_taken_over(client: MlflowClient, uri: str, name: str) -> None:
    code = "import sys; from cxr_isnet.tracking import open_store, registry_lock; import os\n"
    code += "with registry_lock(open_store(sys.argv[1]), sys.argv[2]): os._exit(9)"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    assert subprocess.run([sys.executable, "-c", code, uri, name], env=environment).returncode == 9
    assert client.get_registered_model(f"{name} is being changed")

    with registry_lock(client, name, seconds=5):
        pass


@pytest.mark.parametrize(
    "owner", ["held by another machine, pid:[1], process 1", "", "held by whoever"], ids=["machine", "none", "words"]
)
def test_the_lock_of_another_machine_is_left_alone(client: MlflowClient, name: str, owner: str) -> None:
    client.create_registered_model(f"{name} is being changed", description=owner)

    with pytest.raises(InputError, match="is being changed by another"), registry_lock(client, name, seconds=0.3):
        pass


def at_once(uri: str, name: str, runs: list[list[str]]) -> list[list[dict[str, object]]]:
    """Registers lists of runs, each in a process of its own, all started together; what each of them reported."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.deployment.made_runs", uri, name, *mine],
            cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for mine in runs
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        answers.append([json.loads(line) for line in out.splitlines()])
    return answers


def check_two_at_once(uri: str, name: str) -> None:
    """The better of two that both beat the champion wins, in whichever order they come."""
    client = open_store(uri)
    register(client, make_run(uri, 1.0), name, GATE)
    strengths = ([3.0, 1.6], [2.2, 1.3])
    runs = [[make_run(uri, strength) for strength in mine] for mine in strengths]

    answers = at_once(uri, name, runs)

    versions = sorted(int(answer["version"]) for mine in answers for answer in mine)  # type: ignore[call-overload]
    assert versions == [2, 3, 4, 5]
    best = client.get_model_version_by_alias(name, "champion")
    assert best.run_id == runs[0][0]
    assert aliases(client, name)["candidate"] == "5"
    assert not [m.name for m in client.search_registered_models() if "being changed" in m.name]


@pytest.mark.slow
def test_two_registrations_at_once_leave_the_best_as_champion(uri: str, name: str) -> None:
    check_two_at_once(uri, name)


def test_no_global_store_is_set(client: MlflowClient) -> None:
    assert not mlflow.is_tracking_uri_set()
