"""Models beside classifiers that see no lungs."""

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.control_comparison import NO_CONTROLS, control_sentences
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.report import study_text, write_report
from cxr_isnet.evaluation.study import evaluate_tables

from .conftest import TWO

SETTINGS = Settings(resamples=200)


@pytest.fixture(scope="module")
def control(tables):
    """A control on the first 150 images, in another order, that knows as much as the plain model."""
    return tables["plain"].iloc[:150].sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def study(tables, control):
    return evaluate_tables(tables, TWO, {}, SETTINGS, controls={"thumbnail": control})


def test_auc_and_difference_are_of_the_images_that_the_control_sees(study, tables):
    (result,) = study.controls["pooled"]
    seen = [tables[name].iloc[:150] for name in ("plain", "isnet")]
    plain, isnet = (roc_auc_score(t["label"], t["probability_tuberculosis"]) for t in seen)

    assert (result.control, result.n_images) == ("thumbnail", 150)
    assert result.auc.estimate == pytest.approx(plain)
    assert result.minus_control["isnet"].estimate == pytest.approx(isnet - plain)
    assert result.minus_control["isnet"].low > 0


def test_a_model_is_no_better_unless_the_interval_of_the_difference_is_above_0(study):
    (result,) = study.controls["pooled"]

    assert result.no_better("plain")
    assert not result.no_better("isnet")
    said = [s for s in control_sentences(study.controls) if s.startswith("pooled") and "no better" in s]
    assert len(said) == 1
    assert said[0].startswith("pooled: plain is no better than the thumbnail")


def test_a_control_has_the_interval_that_the_same_table_has_as_a_model(study, tables, control):
    known = evaluate_tables({"thumbnail": control.sort_index()}, TWO, {}, SETTINGS).models["thumbnail"]

    (result,) = study.controls["pooled"]
    expected = known.overall.result.metrics["auc"]
    assert (result.auc.estimate, result.auc.low, result.auc.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )


def test_a_control_of_few_patients_that_is_always_right_has_an_interval_that_is_marked(tables):
    few = {"plain": tables["plain"].groupby("label").head(5)}
    right = few["plain"]["label"] == TWO[1]
    perfect = few["plain"].assign(probability_normal=1.0 - right, probability_tuberculosis=right.astype(float))

    study = evaluate_tables(few, TWO, {}, SETTINGS, controls={"border": perfect})

    ((result,),) = study.controls.values()

    assert (result.auc.estimate, result.auc.high, result.auc.approximate) == (1.0, 1.0, True)
    patients = few["plain"].groupby("label")["patient_id"].nunique().min()
    wilson = patients / (patients + student.ppf(0.975, patients - 1) ** 2)  # of n of n, with Student's quantile
    assert result.auc.low == pytest.approx(wilson)
    assert result.minus_control["plain"].approximate


def test_every_report_says_so(study, tables, tmp_path):
    write_report(tmp_path, study, tables)

    for text in (study_text(study), *((tmp_path / f).read_text() for f in ("report.html", "model_card.md"))):
        assert "plain is no better than the thumbnail" in text
    assert 'data-control="thumbnail"' in (tmp_path / "report.html").read_text()


def test_without_controls_every_report_says_what_is_needed(tables, tmp_path):
    study = evaluate_tables(tables, TWO, {}, SETTINGS)
    write_report(tmp_path, study, tables)

    assert NO_CONTROLS in study_text(study)
    assert "--controls thumbnail=FILE" in (tmp_path / "report.html").read_text()


def test_a_control_of_other_images_is_refused(tables, control):
    with pytest.raises(InputError, match=r"control 'border' has none of the images"):
        evaluate_tables(tables, TWO, {}, SETTINGS, controls={"border": control.assign(path="other.png")})


def test_a_site_without_labels_has_no_control(tables, control):
    unlabelled = {name: t.assign(label=np.where(t["site"] == "north", "", t["label"])) for name, t in tables.items()}

    study = evaluate_tables(unlabelled, TWO, {}, SETTINGS, controls={"thumbnail": control})

    assert study.controls["north"] == ()
    assert study.controls["south <b>"]
