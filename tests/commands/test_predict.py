"""`cxr-isnet predict` on phantoms in DICOM, pictures, and files that are none."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxr_isnet.cli import main
from cxr_isnet.commands.predict import PredictConfig, dicom_results
from cxr_isnet.deployment import load_classifier, log_classifier
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest
from cxr_isnet.tracking import TrackingConfig, start_run

PROBABILITIES = ["probability_normal", "probability_tuberculosis"]


@pytest.fixture
def images(phantom_manifest: Path) -> list[str]:
    return sorted(map(str, (phantom_manifest.parent / "images").iterdir()))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder of one picture, a web page, a truncated DICOM file below it, and a hidden file."""
    folder = tmp_path / "films"
    (folder / "below").mkdir(parents=True)
    Image.fromarray((np.linspace(0, 1, 4096).reshape(64, 64) * 255).astype(np.uint8)).save(folder / "b.png")
    (folder / "a.dcm").write_text("<html>not found</html>")
    (folder / "below" / "c.dcm").write_bytes(b"\0" * 128 + b"DICM\2\0")
    (folder / ".DS_Store").write_bytes(b"\0")
    return folder


def predict(*words: str) -> int:
    try:
        main(["predict", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_images_get_the_probabilities_of_the_classifier(trained: Path, images: list[str], tmp_path: Path) -> None:
    status = predict(str(trained / "best.pt"), *images[:3], "-o", str(tmp_path / "p.csv"))

    table = pd.read_csv(tmp_path / "p.csv")
    expected = Classifier.load(trained / "best.pt").predict(images[:3])
    assert status == 0
    assert list(table["path"]) == images[:3]
    np.testing.assert_allclose(table[PROBABILITIES], expected[PROBABILITIES], atol=1e-6)
    assert table["error"].isna().all()
    assert set(table["relevance_reason"]) == {"no lung mask"}


def test_every_file_gets_a_row_and_a_bad_one_stops_no_good_one(
    trained: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "nowhere.png")

    status = predict(str(trained / "best.pt"), str(broken), missing, "-o", str(tmp_path / "p.csv"))

    table = pd.read_csv(tmp_path / "p.csv").set_index("path")
    assert status == 1
    assert list(table.index) == [str(broken / "a.dcm"), str(broken / "b.png"), str(broken / "below" / "c.dcm"), missing]
    good = table.loc[str(broken / "b.png")]
    assert good[PROBABILITIES].sum() == pytest.approx(1)
    bad = table.drop(index=str(broken / "b.png"))
    assert bad[PROBABILITIES].isna().all(axis=None)
    assert all(os.path.basename(path) in reason for path, reason in bad["error"].items())
    assert "4 images, 3 could not be predicted" in capsys.readouterr().out


def test_the_summary_counts_the_decisions_that_the_model_is_shipped_with(
    trained: Path, external_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier, model = Classifier.load(trained / "best.pt"), tmp_path / "best.pt"
    scores = classifier.predict(list(read_manifest(external_manifest)["image"]))["probability_tuberculosis"]
    classifier.threshold, classifier.temperature = float(scores.sort_values().iloc[-3:-1].mean()), 0.1
    classifier.save(model)

    for calibrated in ("false", "true"):
        predict(str(model), str(external_manifest), "-o", str(tmp_path / "p.csv"), f"--calibrated={calibrated}")

        said = capsys.readouterr().out
        assert f"decision normal: {len(scores) - 2}\n  decision tuberculosis: 2\n" in said
        assert f"(tuberculosis from probability {classifier.threshold:.4g} on: shipped with the model, frozen)" in said


def test_a_manifest_gives_a_table_that_can_be_evaluated_to_the_same_numbers(
    trained: Path, external_manifest: Path, tmp_path: Path
) -> None:
    table, validation = tmp_path / "p.csv", trained / "validation" / "clean" / "predictions.csv"
    predict(str(trained / "best.pt"), str(external_manifest), "-o", str(table))
    common = ["--resamples", "20", "--tracking.enabled=false"]

    at_once = ["evaluate-model", f"--model={trained / 'best.pt'}", "--manifest", str(external_manifest)]
    by_hand = ["evaluate", f"--predictions=cross_entropy={table}"]
    for words, output in ((by_hand, tmp_path / "e"), (at_once, tmp_path / "m")):
        main([*words, f"--validation={validation}", "-o", str(output), *common])

    tables, model = (
        json.loads((tmp_path / folder / "report.json").read_text())["models"]["cross_entropy"]["sites"]
        for folder in ("e", "m/clean")
    )
    assert tables == model
    assert tables["Birch"]["result"]["n_relevance"] == 8


def test_parquet_and_calibrated_probabilities(trained: Path, images: list[str], tmp_path: Path) -> None:
    classifier = Classifier.load(trained / "best.pt")
    classifier.temperature = 3.0
    classifier.save(tmp_path / "best.pt")

    predict(str(tmp_path / "best.pt"), *images[:2], "-o", str(tmp_path / "p.parquet"), "--calibrated", "true")

    table = pd.read_parquet(tmp_path / "p.parquet")
    expected = classifier.predict(images[:2], calibrated=True)
    np.testing.assert_allclose(table[PROBABILITIES], expected[PROBABILITIES], atol=1e-6)


def test_labels_of_other_classes_do_not_matter_to_a_prediction(
    trained: Path, phantom_table: pd.DataFrame, tmp_path: Path
) -> None:
    phantom_table.assign(label="pneumonia").to_csv(tmp_path / "others.csv", index=False)

    status = predict(str(trained / "best.pt"), str(tmp_path / "others.csv"), "-o", str(tmp_path / "p.csv"))

    table = pd.read_csv(tmp_path / "p.csv")
    assert status == 0
    assert set(table["label"]) == {"pneumonia"}
    assert table["relevance_in_lung"].between(0, 1).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{image}", "-o", "p.xlsx"], "ends in .csv or .parquet"),
        (["{image}", "{manifest}", "-o", "p.csv"], "is a manifest and"),
        (["{empty}", "-o", "p.csv"], "no file"),
        (["{image}", "-o", "nowhere/p.csv"], "its folder does not exist"),
        (["{image}", "-o", "p.csv", "--explainer", "attention"], "no attention maps"),
        (["{manifest}", "-o", "{manifest}"], "is not a table of predictions"),
        (["{image}", "-o", "p.csv", "--batch-size", "0"], "batch_size is 0"),
    ],
)
def test_what_cannot_be_predicted_is_said_and_leaves_nothing(
    words: list[str], message: str, trained: Path, images: list[str], phantom_manifest: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    filled = [word.format(image=images[0], manifest=phantom_manifest, empty="empty") for word in words]

    status = predict(str(trained / "best.pt"), *filled)

    assert status == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_workers_give_the_same_table(trained: Path, images: list[str], tmp_path: Path) -> None:
    for workers in ("0", "2"):
        predict(str(trained / "best.pt"), *images[:5], "-o", str(tmp_path / f"{workers}.csv"), "--workers", workers)

    assert (tmp_path / "0.csv").read_text() == (tmp_path / "2.csv").read_text()


def test_a_file_that_is_no_classifier_is_an_error(trained: Path) -> None:
    with pytest.raises(InputError, match="not a classifier"):
        Classifier.load(trained / "last.pt")


@pytest.mark.parametrize(("given", "decides"), [(None, 0.3), (0.7, 0.7)])
def test_dicom_results_decide_by_the_models_own_threshold_unless_one_is_given(
    trained: Path, tmp_path: Path, given: float | None, decides: float
) -> None:
    pytest.importorskip("highdicom")
    classifier = Classifier.load(trained / "best.pt")
    config = PredictConfig(str(trained / "best.pt"), ["a.dcm"], str(tmp_path / "out.csv"), threshold=given)

    assert dicom_results(config, replace(classifier, threshold=0.3)).rule.threshold == decides
    assert given is not None or dicom_results(config, replace(classifier, threshold=None)).rule.threshold is None


def test_a_model_of_mlflow_predicts_as_its_checkpoint(trained: Path, images: list[str], tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    classifier = Classifier.load(trained / "best.pt")
    with start_run(TrackingConfig(uri=uri), kind="test", name="a run", parameters={}) as run:
        log_classifier(run, classifier, images[:2], register="lungs", metadata={"method": classifier.method})

    for name, model in {"file": str(trained / "best.pt"), "registry": "models:/lungs/1"}.items():
        main(["predict", model, *images, "-o", str(tmp_path / f"{name}.csv"), f"--tracking.uri={uri}"])

    tables = [pd.read_csv(tmp_path / f"{name}.csv").drop(columns="model_uri") for name in ("file", "registry")]
    pd.testing.assert_frame_equal(*tables)
    assert load_classifier("models:/lungs/1", uri).digest() == classifier.digest()
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "models:/lungs/7", *images, "-o", str(tmp_path / "no.csv"), f"--tracking.uri={uri}"])


def test_the_digest_of_a_classifier_is_of_weights_and_settings(trained: Path) -> None:
    first, second = (Classifier.load(trained / "best.pt") for _ in range(2))
    assert first.digest() == second.digest()

    assert replace(first, threshold=0.123).digest() != first.digest()
    with torch.no_grad():
        next(second.network.parameters()).view(-1)[0] += 1e-6
    assert second.digest() != first.digest()
