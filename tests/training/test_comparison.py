"""Which trainings a comparison plans, and what it refuses before any of them begins."""

import logging
from dataclasses import replace

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.inference import controls as inference_controls
from cxr_isnet.training.comparison import Trial, _LogFile, heatmap_weights, plan_trials, trial_tables, with_settings
from cxr_isnet.training.controls import controls_of
from cxr_isnet.training.partitions import read_partitions


def test_every_method_and_variant_is_planned_with_every_seed(make_config, tmp_path):
    weak = {"method": "isnet", "options": {"isnet": {"heatmap_weight": 0.2}}}

    trials = plan_trials(make_config(), tmp_path, ["cross_entropy", "isnet"], {"weak": weak}, [0, 5])

    assert [(t.method, t.config.method, t.config.seed) for t in trials] == [
        ("cross_entropy", "cross_entropy", 0), ("cross_entropy", "cross_entropy", 5),
        ("isnet", "isnet", 0), ("isnet", "isnet", 5), ("weak", "isnet", 0), ("weak", "isnet", 5),
    ]  # fmt: skip
    assert len({t.config.output for t in trials}) == 6
    assert [t.config.options.isnet.heatmap_weight for t in trials[2::2]] == [
        trials[0].config.options.isnet.heatmap_weight,
        0.2,
    ]


def test_a_variant_keeps_all_other_settings(make_config, tmp_path):
    base = make_config(epochs=7)

    (trial,) = plan_trials(base, tmp_path, [], {"quick": {"optimizer": {"learning_rate": 0.5}}}, [0])

    expected = replace(base, optimizer=replace(base.optimizer, learning_rate=0.5), output=trial.config.output)
    assert trial.config == expected


def test_a_method_that_needs_a_network_of_its_own_has_it_in_a_variant_too(make_config, tmp_path):
    variants = {
        "gentle": {"method": "vit_b16", "optimizer": {"learning_rate": 1e-4}},
        "tiny": {"method": "vit_b16", "network": {"name": "vit_tiny"}},
        "plain": {"method": "cross_entropy"},
    }

    trials = plan_trials(make_config(), tmp_path, ["vit_b16"], variants, [0])

    named = {trial.method: trial.config.network and trial.config.network.name for trial in trials}
    assert named == {"vit_b16": None, "gentle": None, "tiny": "vit_tiny", "plain": "densenet_tiny"}


@pytest.mark.parametrize(
    ("methods", "variants", "seeds", "named"),
    [
        (["isnet", "isnet"], {}, [0], "twice"),
        (["isnet"], {"isnet": {}}, [0], "twice"),
        (["isnet"], {}, [0, 0], "twice"),
        ([], {}, [0], "empty"),
        (["isnet"], {}, [], "empty"),
        (["isnett"], {}, [0], "did you mean 'isnet'"),
        ([], {"a b": {}, "a_b": {}}, [0], "rename"),
        ([], {"mine": {"epoch": 3}}, [0], "variant 'mine'.*epoch"),
        ([], {"mine": {"seed": 3}}, [0], "variant 'mine' sets seed"),
        ([], {"mine": {"output": "x"}}, [0], "variant 'mine' sets output"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(make_config, tmp_path, methods, variants, seeds, named):
    with pytest.raises(InputError, match=named):
        plan_trials(make_config(), tmp_path, methods, variants, seeds)


def test_the_rows_that_differ_in_the_weight_of_the_heatmap_loss_alone_are_found(make_config, tmp_path):
    variants = {
        "weak": {"method": "isnet", "options": {"isnet": {"heatmap_weight": 0.2}}},
        "weak_and_longer": {"method": "isnet", "epochs": 9, "options": {"isnet": {"heatmap_weight": 0.3}}},
        "as_published": {"method": "isnet", "options": {"isnet": {"background_swap": 0.0}}},
    }
    trials = plan_trials(make_config(), tmp_path, ["cross_entropy", "isnet"], variants, [0, 1])

    assert heatmap_weights(trials, "isnet") == {"isnet": 0.5, "weak": 0.2}
    assert heatmap_weights(trials, "cross_entropy") == {}


def test_a_log_on_a_full_disk_ends_nothing_and_prints_no_traceback(capfd):
    handler = _LogFile("/dev/full")
    record = logging.LogRecord("training", logging.INFO, __file__, 1, "epoch 1", None, None)

    handler.emit(record)
    handler.close()

    assert capfd.readouterr().err == ""


def test_no_settings_change_nothing(make_config):
    assert with_settings(make_config(), {}, "settings") is not None


def test_tables_of_a_training_are_those_it_left(trained, make_config, phantom_manifest):
    config = make_config(data={"external": []})
    tables_of = Trial("plain", replace(config, output=str(trained)))
    with pytest.raises(InputError, match="external"):
        trial_tables(tables_of)


def test_controls_are_evaluated_on_every_image_of_every_seed_read_once(make_config, external_manifest, monkeypatch):
    data = make_config(data={"external": [str(external_manifest)]}).data
    read, dataset = [], inference_controls.make_dataset
    monkeypatch.setattr(
        inference_controls,
        "make_dataset",
        lambda rows, *a, **k: (read.extend(rows["image"]), dataset(rows, *a, **k))[1],
    )

    found = controls_of(data, [0, 1])

    assert {name: len(tables) for name, tables in found.items()} == {"thumbnail": 2, "border": 2, "mask_shape": 2}
    for seed, tables in enumerate(found["thumbnail"]):
        partitions = read_partitions(data, seed)
        assert tables.external["clean"]["path"].tolist() == partitions.external["image"].tolist()
        assert tables.validation["clean"]["path"].tolist() == partitions.validation["image"].tolist()
    assert len(read) == len(set(read))


def test_controls_of_trainings_need_an_external_hospital(make_config):
    with pytest.raises(InputError, match=r"data\.external is empty"):
        controls_of(make_config(data={"external": []}).data, [0])
