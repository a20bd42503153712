import multiprocessing
import sqlite3
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.tracking.store import FAULTS, experiment_id, fluent_store, open_store, resolve_uri


def test_the_path_of_a_database_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert resolve_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert resolve_uri(f"sqlite:///{tmp_path}/mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("uri", ["http://host:5000", "https://host", "databricks", "postgresql+psycopg2://h/db"])
def test_servers_are_left_as_they_are(uri):
    assert resolve_uri(uri) == uri


@pytest.mark.parametrize("uri", ["mlruns", "file:///mlruns", "", "sqlite:///:memory:", "sqlite://mlflow.db"])
def test_what_mlflow_cannot_track_to_is_refused_with_what_it_can(uri):
    with pytest.raises(InputError, match=r"cannot track to it. Give a file as 'sqlite:///mlflow.db'"):
        resolve_uri(uri)


def test_a_database_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match=r"file/mlflow\.db'.*Name a file in a folder that can be written to"):
        open_store(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_artifacts_lie_beside_the_database(store_uri):
    client = open_store(store_uri)

    found = client.get_experiment(experiment_id(client, store_uri, "beside"))

    database = Path(store_uri.removeprefix("sqlite:///"))
    assert Path(urlsplit(found.artifact_location).path) == database.parent / "mlartifacts"


def test_an_experiment_is_made_once(store_uri):
    client = open_store(store_uri)

    assert experiment_id(client, store_uri, "once") == experiment_id(client, store_uri, "once")


def test_a_deleted_experiment_is_refused_with_the_way_to_restore_it(store_uri):
    client = open_store(store_uri)
    client.delete_experiment(experiment_id(client, store_uri, "gone"))

    with pytest.raises(InputError, match=r"experiment 'gone' was deleted.*mlflow experiments restore"):
        experiment_id(client, store_uri, "gone")


def test_the_global_store_is_as_it_was_after_the_block(store_uri):
    mlflow.set_tracking_uri("http://other:5000")
    try:
        with fluent_store(store_uri):
            assert mlflow.get_tracking_uri() == store_uri
        assert mlflow.get_tracking_uri() == "http://other:5000"
    finally:
        mlflow.set_tracking_uri(None)


def test_a_global_store_that_was_not_set_is_not_set_after_an_error(store_uri):
    with pytest.raises(RuntimeError), fluent_store(store_uri):
        raise RuntimeError

    assert not mlflow.is_tracking_uri_set()


def make_an_experiment(uri: str, together: Barrier) -> None:
    """In a process of its own; the import of MLflow, which takes longer than the tables, lies behind it."""
    together.wait(timeout=300)
    experiment_id(open_store(uri), uri, "together")


@pytest.mark.slow
def test_processes_that_open_a_new_database_at_once_all_find_its_tables(tmp_path):
    uri, count = f"sqlite:///{tmp_path}/new/mlflow.db", 3
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(count)
    processes = [context.Process(target=make_an_experiment, args=(uri, together)) for _ in range(count)]

    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * count
    assert open_store(uri).get_experiment_by_name("together") is not None


def test_a_database_that_fails_raises_and_prints_no_traceback(tmp_path, capfd):
    client = open_store(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run("0").info.run_id
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE metrics")
        database.commit()
    capfd.readouterr()

    with pytest.raises(FAULTS):
        client.log_metric(run, "auc", 0.5)

    assert "Traceback" not in capfd.readouterr().err
