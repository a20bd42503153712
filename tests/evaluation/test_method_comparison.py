"""Methods side by side, from made-up predictions whose order and thresholds are known."""

import json

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import (
    Settings,
    TrainingTables,
    compare_methods,
    comparison_text,
    flat_numbers,
    hand_till_auc,
    write_comparison,
)
from cxr_isnet.evaluation.comparison_report import findings

CLASSES = ("normal", "ill")
SETTINGS = Settings(resamples=200)


def table(
    strength: float, *, site: str = "North", patients: int = 60, seed: int = 0, lungs: float = 0.8
) -> pd.DataFrame:
    """Predictions whose ill patients score higher by `strength` standard deviations."""
    generator = np.random.default_rng(seed)
    ill = np.arange(patients) % 2
    score = 1 / (1 + np.exp(-(strength * (ill - 0.5) + generator.standard_normal(patients))))
    return pd.DataFrame(
        {
            "path": [f"{site}/{i}.png" for i in range(patients)],
            "patient_id": [str(i) for i in range(patients)],
            "site": site,
            "label": [CLASSES[i] for i in ill],
            "probability_normal": 1 - score,
            "probability_ill": score,
            "model_uri": "made up",
            "relevance_in_lung": lungs,
            "relevance_null": 0.3,
        }
    )


def trained(strength: float, *, seed: int = 0, swapped: float | None = None, lungs: float = 0.8) -> TrainingTables:
    external = pd.concat(
        [table(strength, seed=seed, lungs=lungs), table(strength, site="South", seed=seed + 100, lungs=lungs)],
        ignore_index=True,
    )
    conditions = {"clean": external}
    if swapped is not None:
        conditions["biased"] = external
        conditions["swapped"] = pd.concat(
            [table(swapped, seed=seed), table(swapped, site="South", seed=seed + 100)], ignore_index=True
        )
    return TrainingTables({"clean": table(strength, site="Home", seed=seed + 50)}, conditions)


def test_the_external_auc_is_the_mean_over_sites_and_trainings():
    trainings = [trained(1.0, seed=seed) for seed in range(3)]

    row = compare_methods({"isnet": trainings}, CLASSES, "isnet", SETTINGS).methods[0]

    def auc(rows):
        return hand_till_auc(
            (rows["label"] == "ill").astype(int), rows[["probability_normal", "probability_ill"]].to_numpy()
        )

    clean = [t.external["clean"] for t in trainings]
    by_site = [[auc(rows[rows["site"] == site]) for site in ("North", "South")] for rows in clean]
    assert row.mean_auc.estimate == pytest.approx(np.mean(by_site))
    assert row.auc["clean"]["North"].estimate == pytest.approx(np.mean(by_site, axis=0)[0])
    assert row.in_domain_auc.estimate == pytest.approx(np.mean([auc(t.validation["clean"]) for t in trainings]))
    assert row.internal_minus_external.estimate == pytest.approx(row.in_domain_auc.estimate - row.mean_auc.estimate)


def test_a_worse_method_is_reported_from_the_reference_and_an_equal_one_is_not():
    methods = {
        "isnet": [trained(2.5, seed=seed) for seed in range(3)],
        "blind": [trained(0.0, seed=seed + 10) for seed in range(3)],
        "alike": [trained(2.5, seed=seed + 20) for seed in range(3)],
    }

    found = {row.name: row for row in compare_methods(methods, CLASSES, "isnet", SETTINGS).methods}

    assert found["isnet"].against_reference is None
    assert found["blind"].against_reference.interval.high < 0
    assert found["blind"].p_holm == pytest.approx(2 * found["blind"].against_reference.p)  # the smaller of two
    assert found["alike"].p_holm > 0.05


def test_the_threshold_is_that_of_validation():
    always_high = table(2.0, seed=1)
    always_high[["probability_normal", "probability_ill"]] = [0.1, 0.9]
    tables = TrainingTables({"clean": table(2.0, site="Home")}, {"clean": always_high})

    row = compare_methods({"isnet": [tables]}, CLASSES, "isnet", SETTINGS).methods[0]

    assert row.balanced_accuracy["North"].estimate == 0.5
    assert row.macro_f1["North"].estimate == pytest.approx(1 / 3)
    assert 0.25 < row.macro_f1_posterior["North"].estimate < 0.45


def test_relevance_is_read_above_the_share_of_the_lungs():
    row = compare_methods({"isnet": [trained(1.0)]}, CLASSES, "isnet", SETTINGS).methods[0]

    assert row.relevance_in_lung["North"].estimate == pytest.approx(0.8)
    assert row.relevance_excess["North"].estimate == pytest.approx(0.5)


def test_a_mark_that_is_read_shows_as_biased_minus_swapped():
    methods = {"plain": [trained(3.0, swapped=-3.0)], "isnet": [trained(2.0, swapped=2.0)]}

    comparison = compare_methods(methods, CLASSES, "isnet", SETTINGS)

    plain, isnet = comparison.methods
    assert plain.biased_minus_swapped.estimate > 0.8
    assert isnet.biased_minus_swapped.estimate == pytest.approx(0, abs=1e-12)
    assert [s for s in findings(comparison) if "reads the planted mark" in s] == [
        f"plain reads the planted mark: its AUC falls by {plain.biased_minus_swapped.estimate:.3f} when it is swapped."
    ]


def test_a_control_that_does_as_well_is_named():
    comparison = compare_methods(
        {"isnet": [trained(1.0)]}, CLASSES, "isnet", SETTINGS, controls={"thumbnail": [trained(3.0)]}
    )

    assert any("'thumbnail'" in s and "isnet" in s for s in findings(comparison))
    assert comparison.controls[0].against_reference is None


def test_a_control_that_a_site_has_no_masks_for_has_no_mean_and_beats_nothing(tmp_path):
    whole = trained(3.0, swapped=0.0)
    north = {name: rows[rows["site"] == "North"] for name, rows in whole.external.items()}
    controls = {"mask_shape": [TrainingTables(whole.validation, north)]}

    comparison = compare_methods({"isnet": [trained(1.0, swapped=1.0)]}, CLASSES, "isnet", SETTINGS, controls=controls)

    (control,) = comparison.controls
    assert set(control.auc["clean"]) == {"North"}
    assert control.auc["clean"]["North"].estimate > 0.9
    for mean in (control.mean_auc, control.internal_minus_external, control.biased_minus_swapped):
        assert np.isnan(mean.estimate)
    assert not any("mask_shape" in sentence for sentence in findings(comparison))
    write_comparison(tmp_path, comparison)
    line = next(line for line in comparison_text(comparison).splitlines() if line.startswith("mask_shape"))
    assert f"{control.auc['clean']['North'].estimate:.3f}" in line


def test_a_site_without_a_class_takes_no_part_in_the_mean():
    tables = trained(1.0)
    external = tables.external["clean"]
    external.loc[external["site"] == "South", "label"] = "ill"

    row = compare_methods({"isnet": [tables]}, CLASSES, "isnet", SETTINGS).methods[0]

    assert row.mean_auc.estimate == pytest.approx(row.auc["clean"]["North"].estimate)


def test_trainings_on_other_images_are_refused():
    other = TrainingTables({"clean": table(1.0)}, {"clean": table(1.0, site="East")})

    with pytest.raises(InputError, match="other external images"):
        compare_methods({"isnet": [trained(1.0), other]}, CLASSES, "isnet", SETTINGS)
    with pytest.raises(InputError, match="nothing to compare"):
        compare_methods({"isnet": []}, CLASSES, "isnet", SETTINGS)


def test_report_table_and_json_have_the_same_numbers(tmp_path):
    methods = {"plain": [trained(0.5, swapped=0.1)], "isnet": [trained(1.5, swapped=1.5)]}
    costs = {"plain": {"parameters": 1e6, "training_ms_per_image": 2.0, "inference_ms_per_image": 1.0}}
    comparison = compare_methods(
        methods, CLASSES, "isnet", SETTINGS, costs=costs, failed={"gain, seed 0": "InputError: <b>no</b> layer"}
    )

    write_comparison(tmp_path, comparison)

    written = pd.read_csv(tmp_path / "comparison.csv").set_index("method")
    for row in comparison.methods:
        for name, value in flat_numbers(row).items():
            assert written.loc[row.name, name] == pytest.approx(value, nan_ok=True)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["methods"][0]["mean_auc"]["estimate"] == pytest.approx(comparison.methods[0].mean_auc.estimate)
    page = (tmp_path / "report.html").read_text()
    assert f"{comparison.methods[0].mean_auc.estimate:.3f}" in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert "not a medical device" in page
    assert "gain, seed 0 failed" in comparison_text(comparison)


@pytest.mark.parametrize(
    ("strengths", "chosen"),
    [
        ({0.2: 2.0, 0.5: 2.0, 0.8: 0.0}, "isnet_0.5"),  # the largest that still tells what the lungs tell
        ({0.2: 2.0, 0.5: 0.0, 0.8: 0.0}, "isnet_0.2"),
        ({0.2: 0.0, 0.5: 0.0}, None),
        ({0.5: 2.0}, None),  # nothing to choose from
    ],
)
def test_the_penalty_is_chosen_by_what_the_lungs_alone_tell_in_domain(strengths, chosen):
    outside = trained(0.0, seed=9).external  # the same for all, whatever they do in-domain
    methods = {
        f"isnet_{weight}": [TrainingTables(trained(strength).validation, outside)]
        for weight, strength in strengths.items()
    }
    methods["lungs_only"] = [TrainingTables(trained(2.0).validation, outside)]

    comparison = compare_methods(
        methods,
        CLASSES,
        next(iter(methods)),
        SETTINGS,
        penalties={f"isnet_{weight}": weight for weight in strengths},
        lungs_alone="lungs_only",
    )

    assert comparison.chosen_penalty == chosen
    told = [sentence for sentence in findings(comparison) if "weight" in sentence]
    assert len(told) == (len(strengths) > 1)
    assert all((f"take {chosen}" in sentence) == (chosen is not None) for sentence in told)


def test_no_penalty_is_chosen_without_a_row_of_the_lungs_alone():
    methods = {"weak": [trained(2.0)], "strong": [trained(2.0)]}

    comparison = compare_methods(methods, CLASSES, "weak", SETTINGS, penalties={"weak": 0.2, "strong": 0.8})

    assert comparison.chosen_penalty is None
    assert not any("weight" in sentence for sentence in findings(comparison))
