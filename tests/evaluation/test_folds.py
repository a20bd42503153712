"""Models of one recipe, each evaluated on the site it was not trained on: rules, temperatures, pooling, report."""

import json
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from cxr_isnet.evaluation.calibration import calibration, with_temperature
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.report import study_table, study_text, write_report
from cxr_isnet.evaluation.study import evaluate_folds

from .conftest import TWO
from .schema_check import faults

NAMES = ("north", "south")


@pytest.fixture(scope="module")
def folds():
    """Two models; that of the south says three quarters where that of the north says a half."""

    def table(site, n, shift, seed):
        generator = np.random.default_rng(seed)
        ill = generator.random(n) < 0.4
        chance = 1 / (1 + np.exp(-(generator.normal(size=n) * 2 + 3 * (ill - 0.5) + shift)))
        names = {"path": [f"{site}{seed}_{i}.png" for i in range(n)], "patient_id": [f"{i}" for i in range(n)]}
        return pd.DataFrame(
            {
                **names,
                "site": site,
                "label": np.where(ill, "tuberculosis", "normal"),
                "model_uri": f"without {site}",
                "probability_normal": 1 - chance,
                "probability_tuberculosis": chance,
            }
        )

    return {
        "north": (table("north", 60, 0.0, 1), table("south", 80, 0.0, 2)),
        "south": (table("south", 50, 1.1, 3), table("north", 80, 1.1, 4)),
    }


@pytest.fixture(scope="module")
def study(folds):
    not_evaluated = {"east": "no image of class 'tuberculosis' in split 'train' (9 images)"}
    return evaluate_folds("isnet", folds, TWO, Settings(resamples=100), not_evaluated)


@pytest.fixture(scope="module")
def written(study, folds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    write_report(folder, study, {"isnet": pd.concat([table for table, _ in folds.values()], ignore_index=True)})
    return folder


def test_every_image_is_decided_upon_by_the_threshold_of_its_own_model(study, folds):
    model = study.models["isnet"]

    said = {s: folds[s][0]["probability_tuberculosis"] >= model.folds[s].rule.threshold for s in NAMES}
    ill = {s: folds[s][0]["label"] == "tuberculosis" for s in NAMES}

    assert model.folds["south"].rule.threshold > model.folds["north"].rule.threshold
    for site in NAMES:
        assert model.sites[site].result.metrics["accuracy"].estimate == accuracy_score(ill[site], said[site])
    pooled = accuracy_score(*(np.concatenate([part[s] for s in NAMES]) for part in (ill, said)))
    assert model.overall.result.metrics["accuracy"].estimate == pytest.approx(pooled)
    by_site = next(grouping for grouping in model.groups if grouping.column == "site")
    assert [g.metrics["accuracy"].estimate for g in by_site.groups] == [
        model.sites[site].result.metrics["accuracy"].estimate for site in NAMES
    ]


def test_every_image_is_scaled_by_the_temperature_of_its_own_model(study, folds):
    model = study.models["isnet"]
    columns = ["probability_normal", "probability_tuberculosis"]

    scaled = [with_temperature(folds[s][0][columns].to_numpy(), model.folds[s].temperature)[:, 1] for s in NAMES]
    ill = [(folds[s][0]["label"] == "tuberculosis").to_numpy() for s in NAMES]

    expected = calibration(np.concatenate(ill), np.concatenate(scaled))
    assert model.overall.calibration_scaled["tuberculosis"].brier == pytest.approx(expected.brier)
    assert model.sites["south"].calibration_scaled["tuberculosis"].brier == pytest.approx(
        calibration(ill[1], scaled[1]).brier
    )


def test_internal_minus_external_of_a_site_is_from_the_validation_of_its_own_model(study, folds):
    model = study.models["isnet"]

    there, inside = (roc_auc_score(t["label"] == "tuberculosis", t["probability_tuberculosis"]) for t in folds["south"])

    assert model.internal_minus_external["south"]["auc"].estimate == pytest.approx(inside - there)
    assert list(model.internal_minus_external) == list(NAMES)  # pooled sites have no one validation to be compared with


def test_the_files_tell_the_folds_and_what_is_not_judged(study, written):
    schema = json.loads(files("cxr_isnet.evaluation").joinpath("study.schema.json").read_text())
    content = json.loads((written / "report.json").read_text())
    page = (written / "report.html").read_text(encoding="utf-8")
    card = (written / "model_card.md").read_text(encoding="utf-8")

    assert faults(content, schema, schema) == []
    assert content["models"]["isnet"]["rule"]["by_site"] == study.models["isnet"].rule.by_site
    for text in (page, card, study_text(study)):
        assert "east is not evaluated" in text
        assert "9 images" in text
    assert 'data-fold="south"' in page
    assert "without south" in card
    assert "validation without south" in set(study_table(study)["group"])
