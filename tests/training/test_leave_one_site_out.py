"""Which hospitals can be left out, found out before anything is trained."""

from dataclasses import replace

import pandas as pd
import pytest
import yaml

from cxr_isnet.config import as_plain
from cxr_isnet.errors import InputError
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.training.leave_one_site_out import SiteFolds, plan


@pytest.fixture
def make_folds(make_config, phantom_table, tmp_path):
    """A maker of folds over hospitals that share out the phantoms: name of each to the classes of its images."""

    def make(classes: dict[str, list[str]], **changes) -> SiteFolds:
        recipe = make_config(data={"classes": sorted({c for named in classes.values() for c in named})}, **changes)
        table = phantom_table.assign(patient_id=[f"p{i}" for i in range(len(phantom_table))])
        each = len(table) // len(classes)
        for number, (site, labels) in enumerate(classes.items()):
            rows = slice(number * each, (number + 1) * each)
            table.loc[table.index[rows], "site"] = site
            table.loc[table.index[rows], "label"] = [labels[i % len(labels)] for i in range(each)]
        table = table[: each * len(classes)]
        table.to_csv(tmp_path / "all.csv", index=False)
        return SiteFolds(str(tmp_path / "out"), recipe, [str(tmp_path / "all.csv")])

    return make


BOTH = ["ill", "normal"]


def test_all_sites_are_left_out_where_the_others_have_all_classes(make_folds):
    found = plan(make_folds({"Alder": BOTH, "Birch": BOTH, "Cedar": BOTH}))

    assert (found.sites, found.not_evaluated) == (("Alder", "Birch", "Cedar"), {})


def test_a_site_without_which_a_class_is_lacking_is_reported_with_the_count_of_the_others(make_folds):
    found = plan(make_folds({"Alder": BOTH, "Birch": ["normal"], "Cedar": ["normal"]}))

    assert found.sites == ("Birch", "Cedar")
    assert found.not_evaluated == {"Alder": "no image of class 'ill' in split 'train' (5 images)"}


def test_no_site_that_can_be_left_out_is_refused(make_folds, tmp_path):
    folds = make_folds({"Alder": ["ill"], "Birch": ["normal"]})

    with pytest.raises(InputError, match=r"no site can be left out: without 'Alder' no image of class 'ill'.*'Birch'"):
        plan(folds)

    assert not (tmp_path / "out").exists()


def test_a_single_site_is_refused(make_folds):
    with pytest.raises(InputError, match=r"'Alder' is the only site.*add the manifest of another hospital"):
        plan(make_folds({"Alder": BOTH}))


def test_sites_that_a_file_system_confuses_are_refused(make_folds):
    with pytest.raises(InputError, match="rename a site"):
        plan(make_folds({"St. Mary": BOTH, "St  Mary": BOTH, "St__Mary": BOTH, "St Mary": BOTH}))


def test_a_damaged_image_is_reported(make_folds, tmp_path):
    folds = make_folds({"Alder": BOTH, "Birch": BOTH})
    table = pd.read_csv(tmp_path / "all.csv", dtype=str, keep_default_na=False)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table.loc[0, "image"] = str(tmp_path / "broken.png")
    table.to_csv(tmp_path / "all.csv", index=False)

    with pytest.raises(InputError, match=r"broken\.png"):
        plan(folds)


@pytest.mark.parametrize("kind", ["recipe", "checkpoint", "recipe of a recipe"])
def test_weights_that_have_seen_a_hospital_are_refused(kind, make_folds, make_config, phantom_table, tmp_path):
    phantom_table.assign(site="Birch").to_csv(tmp_path / "seen.csv", index=False)
    first = as_plain(make_config(data={"training": [str(tmp_path / "seen.csv")]}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(first))
    phantom_table.assign(site="Dogwood").to_csv(tmp_path / "other.csv", index=False)
    data = {"training": [str(tmp_path / "other.csv")]}
    second = as_plain(make_config(data=data, init_from=str(tmp_path / "config.yaml")))
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    source = {"recipe": "config.yaml", "checkpoint": "best.pt", "recipe of a recipe": "second.yaml"}[kind]

    with pytest.raises(InputError, match=r"init_from was trained on \['Birch'\]"):
        plan(make_folds({"Alder": BOTH, "Birch": BOTH}, init_from=str(tmp_path / source)))


def test_an_encoder_that_has_seen_a_hospital_is_refused(make_folds, make_config, phantom_table, tmp_path):
    phantom_table.assign(site="Birch").to_csv(tmp_path / "seen.csv", index=False)
    first = as_plain(make_config(data={"training": [str(tmp_path / "seen.csv")]}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(first))
    options = options_by_method({"linear_probe": {"encoder": str(tmp_path / "best.pt")}})

    with pytest.raises(InputError, match=r"best\.pt: encoder was trained on \['Birch'\]"):
        plan(make_folds({"Alder": BOTH, "Birch": BOTH}, method="linear_probe", options=options))


def test_weights_of_other_hospitals_are_taken_and_unknown_ones_warned_of(make_folds, make_config, tmp_path, caplog):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_plain(make_config())))  # the phantoms' own site
    (tmp_path / "bare").mkdir()
    folds = make_folds({"Birch": BOTH, "Cedar": BOTH}, init_from=str(tmp_path / "config.yaml"))

    assert len(plan(folds).sites) == 2
    assert "must not have seen" not in caplog.text
    plan(replace(folds, experiment=replace(folds.experiment, init_from=str(tmp_path / "bare" / "best.pt"))))
    assert "it must not have seen ['Birch', 'Cedar']" in caplog.text


def test_several_processes_are_refused(make_folds, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(InputError, match="without torchrun"):
        make_folds({"Alder": BOTH, "Birch": BOTH})
