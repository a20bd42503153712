import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.tracking.model import load_model, log_model, pinned
from cxr_isnet.tracking.run import TrackingConfig, start_run

CLASSES = ("normal", "tuberculosis")
PATHS = ["a.png", "b.dcm", "c.png"]


@pytest.fixture(scope="module")
def registered(store_uri, tmp_path_factory):
    """A run, and what it logged: a fake model registered as NAME with its first version."""
    from .conftest import FAKE_MODEL

    folder = tmp_path_factory.mktemp("model")
    (folder / "checkpoint.json").write_text('{"normal": 0.25, "tuberculosis": 0.75}')
    (folder / "beside" / "__pycache__").mkdir(parents=True)
    (folder / "beside" / "__init__.py").write_text("")
    (folder / "beside" / "__pycache__" / "x.pyc").write_text("")
    (folder / "fake_model.py").write_text(FAKE_MODEL)
    with start_run(
        TrackingConfig(store_uri, "models", run_name="isnet 0.5: 'a/b'"), kind="test", name="a run", parameters={}
    ) as run:
        logged = log_model(
            run,
            folder / "checkpoint.json",
            python_model=folder / "fake_model.py",
            classes=CLASSES,
            example_paths=PATHS,
            register="NAME",
            code_paths=[str(folder / "beside")],
            pip_requirements=pinned(["pandas", "mlflow"], ["no-such-package"]),
            metadata={"method": "isnet", "validation auc": 0.9},
        )
    return run, logged


def test_a_registered_model_is_loaded_and_predicts_from_paths(registered, monkeypatch):
    run, logged = registered
    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.uri)

    answer = mlflow.pyfunc.load_model("models:/NAME/1").predict(PATHS)

    assert (logged.name, logged.version) == ("NAME", 1)
    expected = {"path": PATHS, "probability_normal": [0.25] * 3, "probability_tuberculosis": [0.75] * 3}
    pd.testing.assert_frame_equal(answer, pd.DataFrame(expected))


@pytest.mark.parametrize("paths", [PATHS[:1], PATHS, PATHS * 30])
def test_a_model_is_loaded_by_its_id_and_takes_any_number_of_paths(registered, paths):
    run, logged = registered

    assert list(load_model(logged.model_uri, run.uri).predict(paths)["path"]) == paths


def test_the_signature_names_the_columns_of_the_answer(registered):
    run, logged = registered

    signature = load_model(logged.model_uri, run.uri).metadata.signature

    assert signature.inputs is None  # with a schema MLflow would refuse all but a list of text
    assert signature.outputs.input_names() == ["path", "probability_normal", "probability_tuberculosis"]


def test_no_file_of_the_model_names_a_path_of_this_machine(registered, tmp_path_factory):
    run, logged = registered
    folder = Path(run.client.get_logged_model(logged.model_id).artifact_location.removeprefix("file://"))
    files = [file for file in folder.rglob("*") if file.is_file()]

    assert len(files) > 5
    for place in (str(tmp_path_factory.getbasetemp()), str(Path(__file__).parents[2]), str(Path.home()) + "/"):
        assert [file.name for file in files if place.encode() in file.read_bytes()] == []
    assert not list(folder.rglob("__pycache__"))


def test_the_model_says_what_it_is_and_what_it_is_not(registered):
    run, logged = registered

    metadata = load_model(logged.model_uri, run.uri).metadata.metadata

    assert metadata["classes"] == list(CLASSES)
    assert metadata["method"] == "isnet"
    assert "not a medical device" in metadata["disclaimer"]


def test_the_version_carries_tags(registered):
    run, _ = registered

    tags = run.client.get_model_version("NAME", "1").tags

    assert tags["classes"] == "normal, tuberculosis"
    assert tags["validation auc"] == "0.9"
    assert "not a medical device" in tags["disclaimer"]


def test_a_model_has_the_name_of_its_run_in_the_letters_that_mlflow_takes(registered):
    run, logged = registered

    assert run.client.get_logged_model(logged.model_id).name == "isnet 0_5_ _a_b_"


def test_model_and_run_are_linked_and_the_run_goes_on(registered):
    run, logged = registered

    stored = run.client.get_run(run.run_id)
    assert [output.model_id for output in stored.outputs.model_outputs] == [logged.model_id]
    assert run.client.get_logged_model(logged.model_id).source_run_id == run.run_id
    assert run.client.get_model_version("NAME", "1").run_id == run.run_id


def test_the_code_of_the_model_and_pinned_requirements_are_stored(registered):
    run, logged = registered
    folder = Path(run.client.get_logged_model(logged.model_id).artifact_location.removeprefix("file://"))

    assert (folder / "fake_model.py").is_file()
    assert (folder / "requirements.txt").read_text().split() == pinned(["pandas", "mlflow"])
    assert (folder / "code" / "beside" / "__init__.py").is_file()
    assert json.loads((folder / "artifacts" / "checkpoint.json").read_text())["normal"] == 0.25


def test_model_code_that_fails_on_the_example_stores_no_model(config, fake_model):
    with start_run(config, kind="test", name="a run", parameters={}) as run, pytest.raises(json.JSONDecodeError):
        log_model(run, **fake_model("no checkpoint"), classes=CLASSES, example_paths=PATHS)

    assert not run.client.search_logged_models([run.client.get_run(run.run_id).info.experiment_id])


def test_model_code_with_other_columns_stores_no_model(config, fake_model):
    with (
        start_run(config, kind="test", name="a run", parameters={}) as run,
        pytest.raises(ValueError, match="probability_other"),
    ):
        log_model(run, **fake_model('{"other": 1.0}'), classes=CLASSES, example_paths=PATHS)

    assert not run.client.search_logged_models([run.client.get_run(run.run_id).info.experiment_id])


def test_the_page_of_a_model_says_what_it_is_and_which_version(config, fake_model):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        logged = log_model(
            run, **fake_model(), classes=CLASSES, example_paths=PATHS, register="named", description="of two hospitals"
        )

    tags = run.client.get_logged_model(logged.model_id).tags
    assert tags["mlflow.note.content"] == "of two hospitals"
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "named", "version": 1}]


def test_registering_again_gives_the_next_version(config, fake_model):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        versions = [
            log_model(run, **fake_model(), classes=CLASSES, example_paths=PATHS, register="again").version
            for _ in range(2)
        ]

    assert versions == [1, 2]


def test_a_model_that_is_not_registered_has_no_version(config, fake_model):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        logged = log_model(run, **fake_model(), classes=CLASSES, example_paths=PATHS)

    assert (logged.name, logged.version) == (None, None)
    assert len(load_model(logged.model_uri, config.uri).predict(PATHS)) == 3


def test_a_run_that_keeps_nothing_logs_no_model():
    with start_run(TrackingConfig(enabled=False), kind="test", name="a run", parameters={}) as run:
        given = {"python_model": "none", "classes": CLASSES, "code_paths": [], "pip_requirements": []}
        assert log_model(run, "none", example_paths=[], **given) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"checkpoint": "nowhere.pt"}, r"nowhere.pt: there is no such file \(checkpoint of the model\)"),
        ({"python_model": "nowhere.py"}, "nowhere.py: there is no such file"),
        ({"artifacts": {"lungs": "lungs.pt"}}, r"lungs.pt: there is no such file \(lungs of the model\)"),
        ({"example_paths": ["a.png"]}, "give at least 2 image files"),
        ({"register": "a/b"}, "registered name 'a/b'"),
        ({"register": " "}, "registered name ' '"),
    ],
)
def test_what_cannot_be_logged_is_refused_and_nothing_is_stored(config, fake_model, change, problem):
    with start_run(config, kind="test", name="a run", parameters={}) as run, pytest.raises(InputError, match=problem):
        log_model(run, **{**fake_model(), "classes": CLASSES, "example_paths": PATHS, **change})

    assert not run.client.get_run(run.run_id).outputs.model_outputs


def test_the_same_content_of_a_run_is_logged_and_registered_once(config, fake_model):
    """As of a training that is killed after its registration and before its end, and resumed."""
    given = {"classes": CLASSES, "example_paths": PATHS, "content": "ab" * 32, "register": "once"}
    with start_run(config, kind="test", name="a run", parameters={"epochs": 3}) as run:
        first = log_model(run, **fake_model(), **given, metadata={"seed": 1}, description="of seed 1")
        half = run.client.create_logged_model(
            run.client.get_run(run.run_id).info.experiment_id,
            source_run_id=run.run_id,
            tags={"content_sha256": "ab" * 32},
        )
    with start_run(config, kind="test", name="a run", parameters={"epochs": 3}, run_id=run.run_id) as again:
        second = log_model(again, **fake_model(), **given, metadata={"seed": 1}, description="of seed 1")

    assert second == first
    (version,) = run.client.search_model_versions("name = 'once'")
    assert (version.description, version.tags["seed"]) == ("of seed 1", "1")
    assert run.client.get_logged_model(half.model_id).status == "FAILED"
    assert run.client.get_logged_model(first.model_id).params == {"epochs": "3"}


def test_a_version_is_never_seen_without_its_tags(config, fake_model, monkeypatch):
    with start_run(config, kind="test", name="a run", parameters={}) as run:
        monkeypatch.setattr(
            run.client, "set_registered_model_alias", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            log_model(
                run,
                **fake_model(),
                classes=CLASSES,
                example_paths=PATHS,
                register="tagged",
                metadata={"method": "isnet"},
            )

    (version,) = run.client.search_model_versions("name = 'tagged'")
    assert version.tags["method"] == "isnet"
