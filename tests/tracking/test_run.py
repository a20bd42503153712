import json
import math
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cxr_isnet.errors import InputError
from cxr_isnet.tracking import run as run_module
from cxr_isnet.tracking.run import MlflowRun, NullRun, TrackingConfig, check_store, start_run


def stored(run):
    return MlflowClient(run.uri).get_run(run.run_id)


def artifact(run, name):
    return Path(urlsplit(stored(run).info.artifact_uri).path) / name


def test_a_run_keeps_the_nested_configuration_as_flat_parameters(config):
    with start_run(
        config, kind="test", name="a run", parameters={"method": "isnet", "loss": {"bounds": [1, 2]}}
    ) as run:
        pass

    assert stored(run).data.params == {"method": "isnet", "loss.bounds": "[1, 2]"}


def test_no_password_of_the_store_is_kept_in_it_or_told(config, caplog, monkeypatch):
    caplog.set_level("INFO")
    uri = "http://ann:s3cret@127.0.0.1:9"
    parameters = {"tracking": {"uri": uri}, "manifests": [uri]}
    with start_run(config, kind="test", name="a run", parameters=parameters) as run:
        run.uri = uri
        monkeypatch.setattr(run.client, "log_batch", _fails_with(MlflowException(f"cannot reach {uri}", 5)))
        run.log_metrics({"auc": 0.5}, 0)

    data = run.client.get_run(run.run_id).data
    assert data.params["tracking.uri"] == "http://ann:***@127.0.0.1:9"
    assert "cannot reach http://ann:***@" in caplog.text
    assert "s3cret" not in caplog.text + str(data.params) + str(data.tags)
    with pytest.raises(InputError, match=r"127\.0\.0\.1.*cannot be used") as refused:
        check_store(TrackingConfig(uri=uri))
    assert "s3cret" not in str(refused.value)
    with pytest.raises(InputError, match="its password was left out where it was stored"):
        TrackingConfig(uri=data.params["tracking.uri"])


def _fails_with(error):
    def call(*_, **__):
        raise error

    return call


def test_a_long_configuration_is_kept_whole(config):
    with start_run(
        config, kind="test", name="a run", parameters={f"key{number}": number for number in range(250)}
    ) as run:
        pass

    assert len(stored(run).data.params) == 250


def test_a_run_has_the_name_and_the_tags_it_was_given(config):
    named = TrackingConfig(uri=config.uri, experiment=config.experiment, run_name="isnet seed 1")

    with start_run(
        named, kind="test", name="a run", parameters={}, tags={"method": "isnet", "long": "x" * 9000}
    ) as run:
        pass

    assert stored(run).info.run_name == "isnet seed 1"
    assert stored(run).data.tags["method"] == "isnet"
    assert stored(run).data.tags["long"].startswith("xxx")


def test_the_environment_is_kept_as_tags_and_as_a_file(config):
    with start_run(config, kind="test", name="a run", parameters={"data": {"seed": 3}, "seed": 7}) as run:
        pass

    kept = json.loads(artifact(run, "environment.json").read_text())
    assert {"python", "torch", "monai", "platform", "mlflow"} <= set(kept)
    assert kept["seed"] == "7"
    assert stored(run).data.tags["environment.torch"] == kept["torch"]


def test_metrics_of_a_step_are_one_call(config, monkeypatch):
    calls = []
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        log_batch = run.client.log_batch
        monkeypatch.setattr(run.client, "log_batch", lambda *a, **k: (calls.append(k), log_batch(*a, **k)))
        run.log_metrics({f"term {number}": number / 10 for number in range(50)}, step=3)

    assert len(calls) == 1
    assert stored(run).data.metrics["term 7"] == pytest.approx(0.7)


def test_metrics_have_a_history_by_step(config):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        for step, loss in enumerate([1.0, 0.5]):
            run.log_metrics({"loss": loss}, step)

    history = run.client.get_metric_history(run.run_id, "loss")
    assert [(entry.step, entry.value) for entry in history] == [(0, 1.0), (1, 0.5)]


def test_an_undefined_metric_is_kept_as_undefined(config):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_metrics({"auc": math.nan, "accuracy": 0.5}, 0)

    assert math.isnan(stored(run).data.metrics["auc"])
    assert stored(run).data.metrics["accuracy"] == 0.5


def test_metrics_of_sites_with_odd_names_are_kept(config):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_metrics({"St. Mary (B)/auc": 0.5, "東京.auc": 0.6}, 0)

    assert stored(run).data.metrics["St. Mary _B_/auc"] == 0.5
    assert 0.6 in stored(run).data.metrics.values()


def test_a_data_set_is_linked_without_rows_and_without_patients(config):
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "patient_id": ["X1", "X2"], "label": ["ill", "well"]})

    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_dataset(frame, "shenzhen", "training", "f" * 64, source="shenzhen.csv")

    (entry,) = stored(run).inputs.dataset_inputs
    assert (entry.dataset.name, len(entry.dataset.digest)) == ("shenzhen", 36)
    assert json.loads(entry.dataset.profile)["num_rows"] == 2
    assert json.loads(entry.dataset.source) == {"uri": "shenzhen.csv"}
    assert {tag.key: tag.value for tag in entry.tags} == {"mlflow.data.context": "training"}
    assert "patient_id" not in entry.dataset.schema
    assert "X1" not in str(entry)
    assert "a.png" not in str(entry)


def _dataset(config, frame, tables="f" * 64):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_dataset(frame, "training", "training", tables)
    (entry,) = stored(run).inputs.dataset_inputs
    return entry.dataset


def test_rows_may_lack_what_a_hospital_does_not_state(config):
    ages = pd.DataFrame({"age": [61.0, None], "sex": ["F", None], "count": pd.array([1, None], dtype="Int64")})

    with_gaps, full = _dataset(config, ages), _dataset(config, ages.fillna({"age": 0.0, "sex": "M", "count": 0}))

    assert with_gaps.digest != full.digest
    assert with_gaps == _dataset(config, ages[::-1])


def test_data_sets_are_the_same_if_tables_and_rows_are(config):
    frame = pd.DataFrame({"image": [f"/a/{n}.png" for n in range(4)], "label": list("xyxy"), "site": "Alder"})
    elsewhere = frame.assign(image=frame["image"].str.replace("/a/", "/mnt/b/"))[::-1]

    known = _dataset(config, frame)

    assert _dataset(config, elsewhere) == known
    others = [
        _dataset(config, frame[:3]),  # another split of the same tables
        _dataset(config, frame[1:]),
        _dataset(config, frame.assign(label="x")),
        _dataset(config, frame, "e" * 64),
    ]
    assert len({known.digest, *(other.digest for other in others)}) == 5


def test_a_data_set_names_its_hospitals(config):
    frame = pd.DataFrame({"image": [f"{n}.png" for n in range(6)], "site": [f"site {n // 3}" for n in range(6)]})

    assert _dataset(config, frame).name == "training: site 0, site 1"
    assert _dataset(config, frame.assign(site=frame["image"])).name == "training: 6 hospitals"


def test_a_run_says_who_made_it_and_what_was_done(config, monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody")

    with start_run(config, kind="audit", name="audit of isnet", parameters={}) as run:
        pass

    tags = stored(run).data.tags
    assert (tags["mlflow.user"], tags["mlflow.source.name"], tags["kind"]) == ("somebody", "cxr-isnet", "audit")


def test_a_run_of_a_user_without_a_name_starts(config, monkeypatch):
    def unknown():
        raise OSError("No username set in the environment")

    monkeypatch.setattr(run_module.getpass, "getuser", unknown)

    with start_run(config, kind="test", name="a run", parameters={}) as run:
        pass

    assert "mlflow.user" not in stored(run).data.tags


def test_no_metric_overwrites_that_of_another_hospital(config):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_metrics({"external/A+B/auc": 0.5, "external/A&B/auc": 0.6, "external/A&B/auc_low": 0.4}, 0)

    metrics = stored(run).data.metrics
    assert metrics == {"external/A_B/auc": 0.5, "external/A_B_2/auc": 0.6, "external/A_B_2/auc_low": 0.4}


def test_figures_files_folders_and_mappings_are_kept(config, tmp_path):
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "metrics.csv").write_text("auc\n1\n")

    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_figure(Figure(), "figures/roc.png")
        run.log_artifact(tmp_path / "clean" / "metrics.csv")
        run.log_artifact(tmp_path / "clean", "external")
        run.log_dict({"a": 1}, "settings.json")

    assert artifact(run, "figures/roc.png").read_bytes().startswith(b"\x89PNG")
    assert artifact(run, "metrics.csv").is_file()
    assert artifact(run, "external/clean/metrics.csv").is_file()
    assert json.loads(artifact(run, "settings.json").read_text()) == {"a": 1}


def test_a_run_that_ends_is_finished(config):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        assert stored(run).info.status == "RUNNING"

    assert stored(run).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "FAILED")]
)
def test_a_run_that_breaks_off_says_how_and_passes_the_error_on(config, error, status):
    with pytest.raises(error), start_run(config, kind="test", name="a run", parameters={}) as run:
        raise error

    assert stored(run).info.status == status


def test_a_resumed_run_goes_on_where_it_was(config):
    with start_run(config, kind="test", name="a run", parameters={"epochs": 2}) as first:
        first.log_metrics({"loss": 1.0}, 0)

    with start_run(config, kind="test", name="a run", parameters={"epochs": 2}, run_id=first.run_id) as again:
        assert stored(again).info.status == "RUNNING"
        again.log_metrics({"loss": 0.5}, 1)

    assert again.run_id == first.run_id
    assert len(again.client.get_metric_history(first.run_id, "loss")) == 2
    assert stored(again).info.status == "FINISHED"


def test_a_run_resumed_with_another_value_keeps_both(config):
    with start_run(config, kind="test", name="a run", parameters={"epochs": 2}) as run:
        pass

    with start_run(config, kind="test", name="a run", parameters={"epochs": 5, "new": 1}, run_id=run.run_id):
        pass

    assert stored(run).data.params == {"epochs": "2", "new": "1"}
    assert stored(run).data.tags["resumed.epochs"] == "5"


def test_a_run_that_does_not_exist_cannot_be_resumed(config):
    with pytest.raises(InputError, match=r"there is no run 'nothing'.*Name the database"):
        start_run(config, kind="test", name="a run", parameters={}, run_id="nothing")


def test_two_runs_may_be_open_at_once(config):
    with (
        start_run(config, kind="test", name="a run", parameters={}) as first,
        start_run(config, kind="test", name="a run", parameters={}) as second,
    ):
        first.log_metrics({"auc": 0.1}, 0)
        second.log_metrics({"auc": 0.2}, 0)

    assert (stored(first).data.metrics["auc"], stored(second).data.metrics["auc"]) == (0.1, 0.2)


@pytest.mark.parametrize("off", ["disabled", "rank"])
def test_a_run_that_keeps_nothing_takes_every_call(off, tmp_path, monkeypatch):
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/sub/mlflow.db", enabled=off != "disabled")
    if off == "rank":
        monkeypatch.setenv("RANK", "1")

    with start_run(config, kind="test", name="a run", parameters={"a": 1}) as run:
        run.log_metrics({"auc": 0.5}, 0)
        run.log_dataset(pd.DataFrame(), "name", "training", "digest")
        run.log_figure(Figure(), "roc.png")
        run.log_artifact("nowhere.txt")
        run.log_dict({}, "a.json")
        run.set_tags({"a": 1})

    assert isinstance(run, NullRun)
    assert (run.run_id, run.uri) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_first_process_of_a_distributed_training_keeps_the_run(config, monkeypatch):
    monkeypatch.setenv("RANK", "0")

    with start_run(config, kind="test", name="a run", parameters={}) as run:
        assert isinstance(run, MlflowRun)


def test_an_error_passes_through_a_run_that_keeps_nothing():
    with (
        pytest.raises(ValueError, match="lost"),
        start_run(TrackingConfig(enabled=False), kind="test", name="a run", parameters={}),
    ):
        raise ValueError("lost")


class Outage:
    """A store that fails while `down`, in place of a client's method; what it got otherwise goes to the method."""

    def __init__(self, client, name, error):
        self.down, self.error, self.method = True, error, getattr(client, name)
        setattr(client, name, self)

    def __call__(self, *args, **kwargs):
        if self.down:
            raise self.error
        return self.method(*args, **kwargs)


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("server gone"),
        ConnectionError("refused"),
        OSError(28, "No space left on device"),
        SQLAlchemyError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_store_that_fails_ends_nothing_and_gets_what_it_missed_in_order(config, caplog, monkeypatch, error):
    monkeypatch.setattr(run_module, "RETRY_SECONDS", 0.0)
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        outage = Outage(run.client, "log_batch", error)
        run.log_metrics({"loss": 2.0}, 1)
        run.set_tags({"late": "tag"})
        assert "metrics of step 1 not logged, will be tried again" in caplog.text
        outage.down = False
        run.log_metrics({"loss": 1.0}, 2)

    history = run.client.get_metric_history(run.run_id, "loss")
    assert [(entry.step, entry.value) for entry in history] == [(1, 2.0), (2, 1.0)]
    assert stored(run).data.tags["late"] == "tag"
    assert stored(run).info.status == "FINISHED"


def test_a_store_that_stays_away_is_left_alone_and_what_it_lacks_is_told(config, caplog):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        outage = Outage(run.client, "log_batch", MlflowException("server gone"))
        for step in range(5):
            run.log_metrics({"loss": 1.0}, step)
        assert caplog.text.count("will be tried again") == 1  # asked once, not five times

    assert "lacks 6 entries, from metrics of step 0 on" in caplog.text
    outage.down = False


def test_what_a_store_refuses_for_good_does_not_hold_up_the_rest(config, caplog):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_artifact("no such file")
        run.log_metrics({"loss": 1.0}, 1)

    assert "no such file not logged" in caplog.text
    assert stored(run).data.metrics == {"loss": 1.0}


def test_a_failure_before_a_run_is_handed_out_leaves_none_that_is_running(config, monkeypatch):
    monkeypatch.setattr(run_module, "_log_environment", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        start_run(config, kind="test", name="a run", parameters={})

    client = MlflowClient(config.uri)
    (left,) = client.search_runs([client.get_experiment_by_name(config.experiment).experiment_id])
    assert left.info.status == "KILLED"


def test_steps_that_are_there_are_not_logged_twice(config):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_steps({1: {"loss": 3.0}})
        run.log_steps({1: {"loss": 3.0}, 2: {"loss": 2.0}})

    assert [entry.step for entry in run.client.get_metric_history(run.run_id, "loss")] == [1, 2]


def test_a_store_is_tried_before_the_work(config, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(InputError, match=r"http://127.0.0.1:9' cannot be used .*--tracking.enabled false"):
        check_store(TrackingConfig("http://127.0.0.1:9"))
    with pytest.raises(InputError, match="there is no run 'gone' to resume"):
        check_store(config, "gone")
    check_store(TrackingConfig("http://127.0.0.1:9", enabled=False))
    check_store(config)
    assert MlflowClient(config.uri).get_experiment_by_name(config.experiment) is None


def test_a_run_that_goes_on_does_not_get_the_points_twice_that_it_holds(config):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        run.log_metrics({"auc": 0.8, "broken": math.nan}, 2)

    for _ in range(2):
        with start_run(config, kind="test", name="a run", parameters={}, run_id=run.run_id) as again:
            again.log_metrics({"auc": 0.8, "broken": math.nan, "brier": 0.1}, 2)
            again.log_metrics({"auc": 0.8}, 3)

    client = MlflowClient(run.uri)
    points = {
        name: [m.step for m in client.get_metric_history(run.run_id, name)] for name in ("auc", "broken", "brier")
    }
    assert points == {"auc": [2, 3], "broken": [2], "brier": [2]}
