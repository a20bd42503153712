"""Which training each fold of leave-one-site-out starts, with a training that trains nothing."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.errors import InputError
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, leave_one_site_out
from cxr_isnet.training.leave_one_site_out import FoldPlan, SiteFolds, fold_tables, train_folds

SITES = ("Alder", "Birch", "Cedar")
STUDY = SimpleNamespace(run_id="the study")
NO_RUN = SimpleNamespace(run_id="")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, dict[str, object]]]:
    """Configs and tags of the trainings that were started; each leaves the settings of one that has begun."""
    started: list[tuple[TrainConfig, dict[str, object]]] = []

    def train(config: TrainConfig, *, tags: dict[str, object]) -> None:
        started.append((config, tags))
        RunDirectory.open(config.output, config.resolved(), [], resume=config.resume).begin(
            config.resolved(), config.data.training, "", ""
        )

    monkeypatch.setattr(leave_one_site_out, "train", train)
    return started


@pytest.fixture
def folds(make_config: Callable[..., TrainConfig], tmp_path) -> SiteFolds:
    experiment = make_config(register="lungs", tracking=TrackingConfig(f"sqlite:///{tmp_path}/a.db", run_name="mine"))
    return SiteFolds(str(tmp_path / "study"), replace(experiment, resume=True), ["hospitals.csv"])


@pytest.fixture
def plan(phantoms: pd.DataFrame) -> FoldPlan:
    """Three hospitals, the last of which cannot be left out."""
    return FoldPlan(phantoms.assign(site=[*SITES] * 4), SITES[:2], {"Cedar": "no image of class 'ill'"})


def test_every_fold_trains_on_the_others_and_leaves_its_site_to_be_tested(folds, plan, trainings):
    train_folds(folds, plan, NO_RUN)

    assert [config.output for config, _ in trainings] == [str(folds.folder(site) / "training") for site in SITES[:2]]
    for site, (config, _) in zip(SITES, trainings, strict=False):
        (training,), (external,) = config.data.training, config.data.external
        assert set(pd.read_csv(training)["site"]) == set(SITES) - {site}
        assert set(pd.read_csv(external)["site"]) == {site}
        assert len(pd.read_csv(training)) + len(pd.read_csv(external)) == 12


def test_a_fold_is_the_experiment_under_its_own_name_and_is_never_registered(folds, plan, trainings):
    train_folds(folds, plan, STUDY)

    for site, (config, tags) in zip(SITES, trainings, strict=False):
        expected = replace(
            folds.experiment,
            data=config.data,
            output=config.output,
            tracking=replace(folds.experiment.tracking, run_name=f"without {site}"),
            register=None,
            resume=False,
        )
        assert config == expected
        assert tags == {"mlflow.parentRunId": "the study", "site_left_out": site}


def test_a_fold_that_has_begun_is_gone_on_with_and_one_that_has_ended_is_left_alone(folds, plan, trainings):
    train_folds(folds, plan, NO_RUN)
    (folds.folder("Alder") / "training" / "metrics.json").write_text("{}")
    trainings.clear()

    train_folds(folds, plan, NO_RUN)

    assert [(config.data.external, config.resume) for config, _ in trainings] == [
        ([str(folds.folder("Birch") / "left_out.csv")], True)
    ]


def test_a_fold_that_has_ended_with_other_settings_is_refused(folds, plan, trainings):
    train_folds(folds, plan, NO_RUN)
    (folds.folder("Alder") / "training" / "metrics.json").write_text("{}")

    with pytest.raises(InputError, match="seed=0, not 1"):
        train_folds(replace(folds, experiment=replace(folds.experiment, seed=1)), plan, NO_RUN)


def test_a_folds_tables_are_of_its_own_site_and_of_its_own_validation(folds, plan):
    columns = "path,patient_id,site,label,probability_normal,probability_tuberculosis"
    for site in SITES[:2]:
        for part, row in (("external", plan.frame.index[plan.frame["site"] == site][0]), ("validation", 2)):
            file = folds.folder(site) / "training" / part / "clean" / "predictions.csv"
            file.parent.mkdir(parents=True)
            found = plan.frame.iloc[row]
            values = [found["image"], found["patient_id"], found["site"], found["label"], "0.25", "0.75"]
            file.write_text(f"{columns}\n{','.join(values)}\n")

    found = fold_tables(folds, plan)

    assert {site: [set(table["site"]) for table in tables] for site, tables in found.items()} == {
        "Alder": [{"Alder"}, {"Cedar"}],
        "Birch": [{"Birch"}, {"Cedar"}],
    }
