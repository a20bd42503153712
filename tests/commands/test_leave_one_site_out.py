"""`cxr-isnet leave-one-site-out` on three phantom hospitals, as a whole, and killed in the middle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from cxr_isnet.cli import main
from cxr_isnet.commands.leave_one_site_out import LeaveOneSiteOutConfig, leave_one_site_out
from cxr_isnet.engine import run_directory
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.report import FILES
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest
from cxr_isnet.phantoms import PhantomHospital, write_hospital
from cxr_isnet.tracking import TrackingConfig

SITES = ("Alder", "Birch", "Cedar")
NO_TRACKING = TrackingConfig(enabled=False)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe that takes seconds, over three hospitals of eight phantoms."""
    folder = tmp_path_factory.mktemp("hospitals")
    manifests = [
        str(write_hospital(folder / site, PhantomHospital(site), patients=8, seed=seed, size=64))
        for seed, site in enumerate(SITES)
    ]
    settings = {
        "output": "not looked at",
        "method": "cross_entropy",
        "network": {"name": "densenet_tiny"},
        "data": {
            "training": manifests[:1],
            "external": manifests[1:],
            "classes": ["normal", "tuberculosis"],
            "image": {"size": 32},
            "validation_fraction": 0.34,
        },
        "epochs": 2,
        "batch_size": 4,
        "resamples": 20,
        "device": "cpu",
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def study(recipe, tmp_path_factory):
    """Folder of a finished study."""
    output = tmp_path_factory.mktemp("study") / "out"
    main(
        [
            "leave-one-site-out",
            f"--experiment={recipe}",
            f"--output={output}",
            "--resamples=50",
            f"--tracking.uri=sqlite:///{output.parent}/mlflow.db",
        ]
    )
    return output


@pytest.fixture
def config(recipe, tmp_path):
    return LeaveOneSiteOutConfig(
        experiment=str(recipe), output=str(tmp_path / "out"), resamples=20, tracking=NO_TRACKING
    )


def fold(study: Path, site: str) -> Path:
    return study / "folds" / site / "training"


def test_every_site_is_predicted_by_the_network_that_never_saw_it(study, recipe):
    predictions = pd.read_csv(study / "predictions.csv")

    assert sorted(set(predictions["site"])) == list(SITES)
    for site in SITES:
        trained_on = pd.read_csv(study / "folds" / site / "training.csv")
        images = read_manifest(recipe.parent / site / "manifest.csv")["image"]
        rows = predictions[predictions["site"] == site]
        assert sorted(set(trained_on["site"])) == [other for other in SITES if other != site]
        assert list(rows["path"]) == list(images)
        expected = Classifier.load(fold(study, site) / "best.pt").predict(list(images))
        columns = ["probability_normal", "probability_tuberculosis"]
        np.testing.assert_allclose(rows[columns], expected[columns], atol=1e-6)


def test_the_report_has_every_site_by_the_rule_and_temperature_of_its_own_fold(study):
    content = json.loads((study / "report.json").read_text())
    model = content["models"]["cross_entropy"]
    predictions = pd.read_csv(study / "predictions.csv")

    assert set(FILES) < {path.name for path in study.iterdir()}
    assert list(model["sites"]) == [*SITES, "pooled"]
    assert list(model["folds"]) == list(model["internal_minus_external"]) == list(SITES)
    assert content["not_evaluated"] == {}
    right = {}
    for site, found in model["folds"].items():
        rows = predictions[predictions["site"] == site]
        said = rows["probability_tuberculosis"] >= found["rule"]["threshold"]
        right[site] = (said == (rows["label"] == "tuberculosis")).mean()
        validation = pd.read_csv(fold(study, site) / "validation" / "clean" / "predictions.csv")
        assert found["internal"]["result"]["n_images"] == len(validation)
        shipped = json.loads((fold(study, site) / "metrics.json").read_text())["calibration"]["temperature"]
        assert (found["temperature"] or 1.0) == pytest.approx(shipped)
    accuracies = {site: there["result"]["metrics"]["accuracy"]["estimate"] for site, there in model["sites"].items()}
    assert accuracies == pytest.approx({**right, "pooled": np.mean(list(right.values()))})
    page = (study / "report.html").read_text(encoding="utf-8")
    assert all(f'data-fold="{site}"' in page and f"{site} left out" in page for site in SITES)


def test_the_folds_are_runs_below_that_of_the_study(study):
    run_id = json.loads((study / "run.json").read_text())["run_id"]
    client = MlflowClient(f"sqlite:///{study.parent}/mlflow.db")
    runs = client.search_runs(["1"])

    below = {run.data.tags.get("site_left_out"): run for run in runs if run.info.run_id != run_id}

    assert set(below) == set(SITES)
    assert {run.data.tags["mlflow.parentRunId"] for run in below.values()} == {run_id}
    assert "cross_entropy/pooled/auc" in client.get_run(run_id).data.metrics


@pytest.mark.slow
def test_a_study_that_was_killed_keeps_finished_folds_and_ends_with_the_same(study, config, tmp_path, monkeypatch):
    save = run_directory.RunDirectory.save

    def save_and_die(self, state, *rest):
        save(self, state, *rest)
        if self.path.parent.name == "Birch":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_directory.RunDirectory, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            leave_one_site_out(config)
    out = tmp_path / "out"
    before = (fold(out, "Alder") / "best.pt").stat().st_mtime_ns
    with pytest.raises(InputError, match="add --resume true to resume"):
        leave_one_site_out(config)

    leave_one_site_out(replace(config, resume=True))

    assert (fold(out, "Alder") / "best.pt").stat().st_mtime_ns == before
    killed, whole = (pd.read_csv(f / "predictions.csv").drop(columns="model_uri") for f in (out, study))
    pd.testing.assert_frame_equal(killed, whole)


def test_finished_folds_of_another_recipe_are_not_taken(study, config, recipe, tmp_path):
    settings = yaml.safe_load(recipe.read_text())
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**settings, "epochs": 3}))
    uri = f"sqlite:///{study.parent}/mlflow.db"
    again = replace(config, output=str(study), resume=True, tracking=TrackingConfig(uri=uri))

    with pytest.raises(InputError, match=r"holds a training with experiment\.epochs=2, not 3"):
        leave_one_site_out(replace(again, experiment=str(tmp_path / "other.yaml")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ["eye_colour"]}, "groups names 'eye_colour', which is no column of the manifests"),
        ({"prevalence": {"flu": 0.1}}, "prevalence is 0.1 of 'flu'"),
        ({"experiment": "nowhere.yaml"}, r"nowhere\.yaml: not a readable config"),
    ],
)
def test_what_the_report_would_stumble_over_is_reported_before_anything_is_trained(config, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        leave_one_site_out(replace(config, **changes))

    assert not (tmp_path / "out").exists()
