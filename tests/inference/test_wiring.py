"""That every setting of a classifier, of its predictions and of its evaluation reaches what it is a setting of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cxr_isnet.data import ImageConfig, MarkConfig, MemoryStore, make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import Settings
from cxr_isnet.evaluation.calibration import with_temperature
from cxr_isnet.inference import Classifier, conditions, evaluate, heatmap_cases, predict_manifest, scoring
from cxr_isnet.inference.predict import Condition, files_frame, gallery_cases
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.objectives.method import Explanation

CLASSES = ("normal", "tuberculosis")
COLUMNS = ["probability_normal", "probability_tuberculosis"]
FAST = NetworkConfig("tests.engine.two_processes.CONVOLUTIONS")
SHIFTING = "tests.examples.shifting.METHOD"
MARK = MarkConfig(size=0.3, intensity=0.6)
BIASED, CLEAN, SWAPPED = conditions(MARK)


def fast_network(classes: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(FAST, classes, 32).eval()


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(fast_network(), FAST, CLASSES, ImageConfig(32), "cross_entropy", temperature=2.0)


def maps_by(network: torch.nn.Module, kind: Explanation, images: Tensor) -> Tensor:
    classifier = Classifier(network, FAST, CLASSES, ImageConfig(32), "cross_entropy")
    explain = classifier.explainer(kind).explain
    assert explain is not None
    return explain(images)[1]


def test_files_are_explained_as_asked(classifier: Classifier, phantoms: pd.DataFrame) -> None:
    paths = list(phantoms["image"][:2])
    images = torch.stack([classifier.load_image(path) for path in paths])

    for asked, kind in ((None, Explanation.LRP), (Explanation.INPUT_GRADIENT, Explanation.INPUT_GRADIENT)):
        expected = maps_by(classifier.network, kind, images)
        torch.testing.assert_close(classifier.explain(paths, asked), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="no maps: no explanation was asked for"):
        classifier.explain(paths, Explanation.NONE)


def test_another_network_of_the_same_kind_is_explained_in_its_place(classifier: Classifier) -> None:
    torch.manual_seed(1)
    other, images = classifier.new_network().eval(), torch.rand(1, 1, 32, 32)

    explain = classifier.explainer(network=other).explain

    assert explain is not None
    assert torch.equal(explain(images)[1], maps_by(other, Explanation.LRP, images))
    assert not torch.equal(explain(images)[1], maps_by(classifier.network, Explanation.LRP, images))


def test_a_new_network_is_drawn_anew_and_lies_beside_the_first(classifier: Classifier) -> None:
    classifier.network.to("meta")

    assert {str(weight.device) for weight in classifier.new_network().parameters()} == {"meta"}
    here = replace(classifier, network=fast_network())
    assert not torch.equal(here.new_network()[0].weight, here.network[0].weight)


def test_settings_of_the_method_are_stored_and_build_what_predicts(tmp_path: Path) -> None:
    options = {"by": 0.5, "factor": 1.0}
    torch.manual_seed(0)
    stored = Classifier(fast_network(), FAST, CLASSES, ImageConfig(32), SHIFTING, options=options)
    stored.network = stored.new_network().eval()
    stored.save(tmp_path / "best.pt")

    found = Classifier.load(tmp_path / "best.pt")

    assert (found.options, found.network.by, found.method) == (options, 0.5, SHIFTING)
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(found.probabilities(images), stored.network.network(images + 0.5).softmax(1).detach())


def test_a_classifier_is_loaded_to_the_device_that_is_asked_for(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "best.pt")

    assert str(Classifier.load(tmp_path / "best.pt", "meta").device) == "meta"


@pytest.mark.parametrize("kind", ["method", "network"])
def test_foreign_code_is_imported_only_if_the_file_is_trusted(
    kind: str, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"planted_{kind}"
    (tmp_path / f"{module}.py").write_text("open('imported', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    changes = {"method": f"{module}.X"} if kind == "method" else {"config": NetworkConfig(f"{module}.X")}
    replace(classifier, **changes).save(tmp_path / "best.pt")

    with pytest.raises(InputError, match=rf"best\.pt: names the {kind} '{module}.X', which is code outside cxr-isnet"):
        Classifier.load(tmp_path / "best.pt")
    assert not (tmp_path / "imported").exists()
    with pytest.raises(InputError, match=r"'X' of .* is missing"):
        Classifier.load(tmp_path / "best.pt", trust=True)
    assert (tmp_path / "imported").exists()


def test_calibrated_probabilities_have_the_temperature_and_others_have_not(
    classifier: Classifier, phantoms: pd.DataFrame
) -> None:
    own, calibrated = (predict_manifest(classifier, phantoms, calibrated=asked)[COLUMNS] for asked in (False, True))

    alone = replace(classifier, temperature=1.0).predict(list(phantoms["image"]))[COLUMNS]
    np.testing.assert_allclose(own, alone, atol=1e-6)
    np.testing.assert_allclose(calibrated, with_temperature(own.to_numpy(), 2.0), atol=1e-6)
    assert not np.allclose(own, calibrated, atol=1e-4)


def test_an_image_that_cannot_be_read_is_a_row_with_the_reason_among_the_others(
    classifier: Classifier, phantoms: pd.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    spoiled = phantoms.copy()
    spoiled.loc[[1, 5], ["image", "mask"]] = [str(tmp_path / "broken.png"), ""]

    table = predict_manifest(classifier, spoiled, batch_size=3)

    whole = predict_manifest(classifier, phantoms, batch_size=12)
    good = [place for place in range(12) if place not in (1, 5)]
    np.testing.assert_allclose(table.loc[good, COLUMNS], whole.loc[good, COLUMNS], atol=1e-6)
    assert table.loc[[1, 5], COLUMNS].isna().all(axis=None)
    assert all("broken.png" in table["error"][place] for place in (1, 5))
    assert set(table["error"][good]) == {""}
    assert list(table["path"]) == list(spoiled["image"])


def test_relevance_is_missing_for_the_reason_that_is_said(classifier: Classifier, phantoms: pd.DataFrame) -> None:
    phantoms.loc[0, "mask"] = ""

    explained = predict_manifest(classifier, phantoms, batch_size=4)
    unexplained = predict_manifest(classifier, phantoms, batch_size=4, explanation=Explanation.NONE)

    assert list(explained["relevance_reason"]) == ["no lung mask", *[""] * 11]
    assert list(explained["relevance_in_lung"].isna()) == [True, *[False] * 11]
    assert list(unexplained["relevance_reason"]) == ["no lung mask", *["no explanation was asked for"] * 11]
    assert unexplained["relevance_in_lung"].isna().all()
    pd.testing.assert_frame_equal(explained[COLUMNS], unexplained[COLUMNS], atol=1e-6)


def test_relevance_is_that_of_the_explanation_that_is_asked_for(classifier: Classifier, phantoms: pd.DataFrame) -> None:
    item = make_dataset(phantoms, CLASSES, classifier.image)[0]

    for kind in (Explanation.LRP, Explanation.INPUT_GRADIENT):
        found = predict_manifest(classifier, phantoms.iloc[:1], explanation=kind)["relevance_in_lung"][0]
        maps = maps_by(classifier.network, kind, item["image"][None])[0].abs()
        assert found == pytest.approx(float((maps * item["mask"]).sum() / maps.sum()), rel=1e-4)


def test_the_other_columns_of_a_manifest_go_along_and_paths_of_masks_do_not(
    classifier: Classifier, phantoms: pd.DataFrame
) -> None:
    table = predict_manifest(classifier, phantoms.assign(age=range(12), model_uri="theirs"), model_uri="ours")

    assert list(table["age"]) == list(range(12))
    assert set(table["model_uri"]) == {"ours"}
    assert list(table["patient_id"]) == list(phantoms["patient_id"])
    assert not {"image", "mask", "split", "sha256"} & set(table.columns)


def test_labels_may_be_unknown_where_nothing_is_planted(classifier: Classifier, phantoms: pd.DataFrame) -> None:
    unknown = phantoms.assign(label="scoliosis")

    assert set(predict_manifest(classifier, unknown)["label"]) == {"scoliosis"}
    assert len(predict_manifest(classifier, files_frame(list(phantoms["image"][:2])))) == 2
    with pytest.raises(InputError, match="column 'label' holds 'scoliosis'"):
        predict_manifest(classifier, unknown, BIASED)


def test_images_are_read_by_the_configured_number_of_processes(
    classifier: Classifier, phantoms: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[int, int]] = []
    read = scoring.read_batches

    def listening(dataset: Any, batch_size: int, workers: int) -> Any:
        used.append((batch_size, workers))
        return read(dataset, batch_size, 0)

    monkeypatch.setattr(scoring, "read_batches", listening)
    predict_manifest(classifier, phantoms, batch_size=5, workers=3)

    assert used == [(5, 3)]


@pytest.mark.parametrize("condition", [BIASED, CLEAN, SWAPPED], ids=lambda condition: condition.name)
def test_predictions_and_pictures_are_of_images_with_the_marks_of_the_condition(
    condition: Condition, classifier: Classifier, phantoms: pd.DataFrame
) -> None:
    dataset = make_dataset(phantoms, CLASSES, classifier.image, mark=MARK, mode=condition.mode)
    images = torch.stack([dataset[place]["image"] for place in range(len(dataset))])

    table = predict_manifest(classifier, phantoms, condition)
    cases = gallery_cases(classifier, phantoms, table, condition, per_kind=1)

    np.testing.assert_allclose(table[COLUMNS], classifier.probabilities(images), atol=1e-6)
    assert cases
    shown = dict(zip(phantoms["image"], images, strict=True))
    for case in cases:
        np.testing.assert_array_equal(case.image, shown[case.path][0])


def test_cases_have_the_maps_that_are_asked_for_and_no_outline_without_a_mask(
    classifier: Classifier, phantoms: pd.DataFrame
) -> None:
    phantoms.loc[1, "mask"] = ""
    dataset = make_dataset(phantoms, CLASSES, classifier.image)

    for kind in (Explanation.LRP, Explanation.INPUT_GRADIENT):
        cases = heatmap_cases(classifier, phantoms.iloc[:2], explanation=kind)
        for place, case in enumerate(cases):
            expected = maps_by(classifier.network, kind, dataset[place]["image"][None])[0]
            np.testing.assert_allclose(case.maps, expected, rtol=1e-3, atol=1e-6)
        assert [case.mask is None for case in cases] == [False, True]
    assert heatmap_cases(classifier, phantoms.iloc[:2], explanation=Explanation.NONE) == []


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_an_evaluation_has_the_predictions_rules_and_audit_that_it_is_given(
    temperature: float,
    classifier: Classifier,
    phantoms: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier.temperature, classifier.threshold = temperature, 0.3
    given: list[Any] = []
    reported: list[tuple[Any, ...]] = []
    pictured: list[Condition] = []
    monkeypatch.setattr(evaluate, "evaluate_tables", lambda *args: given.append(args) or f"study {len(given)}")
    monkeypatch.setattr(evaluate, "write_report", lambda *args: reported.append(args))
    monkeypatch.setattr(evaluate, "gallery_cases", lambda *args, store: pictured.append((args[3], store)) or [])
    settings = Settings(resamples=5, seed=2)
    validation, audit = pd.DataFrame({"a": [1]}), {"probes": []}
    made = predict_manifest(classifier, phantoms, model_uri="made before")
    store = MemoryStore(classifier.image)

    studies = evaluate.evaluate_classifier(
        classifier, phantoms, tmp_path, [BIASED, CLEAN], settings, validation=validation,
        predictions={"clean": made}, audit=audit, model_uri="models:/m/1", store=store,
    )  # fmt: skip

    assert studies == {"biased": "study 1", "clean": "study 2"}
    assert pictured == [(BIASED, store), (CLEAN, store)]
    assert [arguments[0] for arguments in reported] == [tmp_path / "biased", tmp_path / "clean"]
    for tables, classes, validations, chosen, found_audit, shipped, controls in given:
        assert controls == {}
        assert (classes, chosen, found_audit) == (CLASSES, settings, audit)
        assert validations == {"cross_entropy": validation}
        assert shipped["cross_entropy"].rule.threshold == 0.3
        assert str(shipped["cross_entropy"].temperature) == ("nan" if temperature == 1 else str(temperature))
        assert list(tables) == ["cross_entropy"]
    uris = [set(tables["cross_entropy"]["model_uri"]) for tables, *_ in given]
    assert uris == [{"models:/m/1"}, {"made before"}]
    written = [set(pd.read_csv(tmp_path / name / "predictions.csv")["model_uri"]) for name in ("biased", "clean")]
    assert written == uris


def test_without_validation_the_rule_is_not_set_by_it(
    classifier: Classifier, phantoms: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(evaluate, "evaluate_tables", lambda *args: given.append(args))
    monkeypatch.setattr(evaluate, "write_report", lambda *args: None)
    monkeypatch.setattr(evaluate, "gallery_cases", lambda *args, store: [])

    evaluate.evaluate_classifier(classifier, phantoms, tmp_path, [CLEAN], Settings(5))

    assert given[0][2] == {}
    assert given[0][4] is None
