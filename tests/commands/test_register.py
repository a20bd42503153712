"""`cxr-isnet register` and `rollback`: what is printed, the exit status, and the way from an audit to the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr_isnet.cli import main
from cxr_isnet.tracking import open_store
from tests.deployment.made_runs import make_run


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('register') / 'mlflow.db'}"


@pytest.fixture
def gate(tmp_path: Path) -> str:
    (tmp_path / "gate.yaml").write_text("resamples: 50\nfloor: 0.6\n")
    return str(tmp_path / "gate.yaml")


def test_a_run_is_registered_and_rolled_back(uri: str, gate: str, capsys: pytest.CaptureFixture[str]) -> None:
    client, store = open_store(uri), f"--tracking.uri={uri}"
    fair, good, poor = (make_run(uri, strength) for strength in (1.5, 3.0, 0.2))

    main(["register", fair, "--name", "lungs", "--gate", gate, store])
    assert "models:/lungs/1 is @candidate and @champion" in capsys.readouterr().out
    main(["register", good, "--name", "lungs", "--gate", gate, "--dry_run", "true", store])
    shown = capsys.readouterr().out
    assert "gate: passed" in shown
    assert "dry run: nothing was changed" in shown
    assert {str(v) for v in client.get_registered_model("lungs").aliases.values()} == {"1"}
    main(["register", good, "--name", "lungs", "--gate", gate, store])
    with pytest.raises(SystemExit) as stopped:
        main(["register", poor, "--name", "lungs", "--gate", gate, store])
    assert stopped.value.code == 1
    shown = capsys.readouterr().out
    assert "FAILED  floor" in shown
    assert "models:/lungs/3 is @candidate\n" in shown

    main(["rollback", "lungs", store])

    assert "models:/lungs/1 is @champion again, as it was before version 2" in capsys.readouterr().out
    assert str(client.get_registered_model("lungs").aliases["champion"]) == "1"


def test_a_bad_name_or_gate_is_reported(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, problem in (
        (["register", "x", "--name", "a/b"], "registered name 'a/b'"),
        (["register", "x", "--name", "a", "--gate", str(tmp_path / "none.yaml")], "not a gate"),
        (["register", "nothing", "--name", "a"], "there is no run 'nothing'"),
        (["rollback", "nothing"], "nothing to undo"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*words, f"--tracking.uri={uri}"])
        assert stopped.value.code == 2
        assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["register", "abc", "--name=x"], ["rollback", "x"], ["predict", "models:/x/1", "a.png", "-o", "a.csv"]]
)
def test_a_store_that_is_no_database_is_told(command: list[str], tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk").write_bytes(b"no database" * 100)

    with pytest.raises(SystemExit) as end:
        main([*command, f"--tracking.uri=sqlite:///{tmp_path / 'junk'}"])

    assert end.value.code == 2
    assert "not a database" in capsys.readouterr().err
