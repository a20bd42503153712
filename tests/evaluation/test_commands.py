"""`cxr-isnet evaluate` and `cxr-isnet explain` on phantoms in DICOM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from cxr_isnet.cli import main
from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.deployment import Classifier
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.calibration import with_temperature
from cxr_isnet.evaluation.commands import EvaluateConfig, ExplainConfig, evaluate, named_tables
from cxr_isnet.evaluation.study_report import FILES
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.tracking import TrackingConfig


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    network = build_network(config, 2).eval()
    Classifier(network, config, ("normal", "tuberculosis"), ImageConfig(size=32), "densenet121").save(
        tmp_path / "best.pt"
    )
    return tmp_path / "best.pt"


def test_evaluate_prints_and_writes_a_result_per_site(
    model: Path, phantom_manifest: Path, external_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            "evaluate",
            f"--model={model}",
            f"--manifest=[{phantom_manifest}, {external_manifest}]",
            f"--output={tmp_path / 'out'}",
            "--resamples=20",
            f"--tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        ]
    )

    printed = capsys.readouterr().out
    assert all(site in printed for site in ("Alder", "Birch", "pooled"))
    assert (tmp_path / "out" / "clean" / "predictions.csv").is_file()
    assert (tmp_path / "mlflow.db").is_file()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "heatmaps Alder" in page
    assert {"report.json", "metrics.csv", "model_card.md"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_checkpoint_is_judged_as_given_and_with_the_temperature_that_it_ships(
    model: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    classifier = Classifier.load(model)
    classifier.temperature = 2.0
    classifier.save(model)
    no_tracking = TrackingConfig(enabled=False)

    evaluate(
        EvaluateConfig(str(tmp_path / "out"), str(model), [str(phantom_manifest)], resamples=20, tracking=no_tracking)
    )

    judged = json.loads((tmp_path / "out" / "report.json").read_text())["models"]["densenet121"]
    table = pd.read_csv(tmp_path / "out" / "clean" / "predictions.csv")
    own = table[["probability_normal", "probability_tuberculosis"]].to_numpy()
    ill = (table["label"] == "tuberculosis").to_numpy()
    there = judged["sites"]["Alder"]
    assert judged["temperature"] == 2.0
    assert there["calibration"]["tuberculosis"]["brier"] == pytest.approx(((own[:, 1] - ill) ** 2).mean())
    scaled = with_temperature(own, 2.0)[:, 1]
    assert there["calibration_scaled"]["tuberculosis"]["brier"] == pytest.approx(((scaled - ill) ** 2).mean())
    assert "Temperature shipped with the model: 2.000" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def predictions(phantom_manifest: Path, tmp_path: Path) -> Path:
    """Somebody's predictions of the phantoms: file names and probabilities, nothing else."""
    images = read_manifest(phantom_manifest)["image"]
    chance = [0.05 + 0.9 * (number * 7 % len(images)) / len(images) for number in range(len(images))]
    table = pd.DataFrame({"path": [Path(image).name for image in images], "probability_normal": chance})
    table["probability_tuberculosis"] = 1 - table["probability_normal"]
    table.to_csv(tmp_path / "theirs.csv", index=False)
    return tmp_path / "theirs.csv"


def test_predictions_alone_are_judged_with_what_a_manifest_adds(
    predictions: Path, phantom_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            "evaluate",
            f"--predictions={predictions}",
            f"--manifest=[{phantom_manifest}]",
            f"--output={tmp_path / 'out'}",
            "--prevalence={tuberculosis: 0.01}",
            "--resamples=20",
            "--tracking.enabled=false",
        ]
    )

    assert "theirs" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["models"]["theirs"]["sites"]["Alder"]["result"]["n_images"] == 12
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)


def test_several_predictions_have_names_and_a_validation_table_each(
    predictions: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    text = evaluate(
        EvaluateConfig(
            str(tmp_path / "out"),
            manifest=[str(phantom_manifest)],
            predictions={"ours": str(predictions), "theirs": str(predictions)},
            validation={"ours": str(predictions), "theirs": str(predictions)},
            resamples=20,
            tracking=TrackingConfig(enabled=False),
        )
    )

    assert "ours" in text
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["comparisons"][0]["differences"]["auc"]["value"] == 0
    assert content["models"]["ours"]["rule"]["threshold"] is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either model"),
        ({"model": "best.pt", "predictions": "a.csv"}, "give either model"),
        ({"model": "best.pt"}, "manifest is an empty list"),
        ({"predictions": "a.csv", "mark": MarkConfig(0.2)}, "mark plants marks"),
        ({"predictions": "a.csv", "sensitivity": 0.9}, "needs a validation table"),
        ({"predictions": "a.csv", "resamples": 0}, "resamples is 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EvaluateConfig("out", **settings)


def test_tables_of_one_name_need_names() -> None:
    assert named_tables(["x/a.csv", "x/b.csv"]) == {"a": "x/a.csv", "b": "x/b.csv"}
    with pytest.raises(InputError, match="different file names"):
        named_tables(["x/a.csv", "y/a.csv"])


def test_an_audit_that_is_none_is_refused(predictions: Path, phantom_manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{}")
    config = EvaluateConfig(
        str(tmp_path / "out"),
        manifest=[str(phantom_manifest)],
        predictions=str(predictions),
        audit=str(tmp_path / "audit.json"),
        resamples=20,
    )

    with pytest.raises(InputError, match=r"Name an audit\.json"):
        evaluate(config)

    assert not (tmp_path / "out").exists()


def test_explain_draws_a_picture_per_image(
    model: Path, phantom_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = list(read_manifest(phantom_manifest)["image"][:2])

    main(["explain", f"--model={model}", f"--images={images}", f"--output={tmp_path / 'maps'}"])

    pictures = capsys.readouterr().out.split()
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(picture) as drawn:
            assert drawn.width > 200


def test_explain_refuses_images_whose_pictures_would_overwrite_each_other() -> None:
    with pytest.raises(InputError, match="different names"):
        ExplainConfig("best.pt", ["a/x.png", "b/x.png"], "out")
