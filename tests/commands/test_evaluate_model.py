"""`cxr-isnet evaluate-model` on phantoms in DICOM."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from cxr_isnet.cli import main
from cxr_isnet.commands.evaluate_model import EvaluateModelConfig, evaluate_model
from cxr_isnet.data import ImageConfig
from cxr_isnet.evaluation.calibration import with_temperature
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.tracking import TrackingConfig


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    network = build_network(config, 2, 32).eval()
    Classifier(network, config, ("normal", "tuberculosis"), ImageConfig(size=32), "cross_entropy").save(
        tmp_path / "best.pt"
    )
    return tmp_path / "best.pt"


def test_evaluate_prints_and_writes_a_result_per_site(
    model: Path, phantom_manifest: Path, external_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            "evaluate-model",
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
    page = (tmp_path / "out" / "clean" / "report.html").read_text(encoding="utf-8")
    assert "heatmaps Alder" in page
    assert {"report.json", "metrics.csv", "model_card.md"} <= {
        path.name for path in (tmp_path / "out" / "clean").iterdir()
    }


@pytest.mark.parametrize("known", ["named", "beside the checkpoint", "not at all"])
def test_controls_learn_from_the_training_patients_where_these_are_known(
    known: str, model: Path, phantom_manifest: Path, external_manifest: Path, tmp_path: Path
) -> None:
    training = [str(phantom_manifest)]
    if known == "beside the checkpoint":
        data = {"training": training, "classes": ["normal", "tuberculosis"], "image": {"size": 32}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": data, "output": "x", "method": "cross_entropy"}))

    text = evaluate_model(
        EvaluateModelConfig(
            model=str(model),
            manifest=[str(external_manifest)],
            output=str(tmp_path / "out"),
            training=training if known == "named" else [],
            resamples=20,
            tracking=TrackingConfig(enabled=False),
        )
    )

    assert ("Birch: controls that see no lungs reach an AUC of thumbnail" in text) == (known != "not at all")
    assert ("No control was given" in text) == (known == "not at all")
    assert (tmp_path / "out" / "border" / "predictions.csv").is_file() == (known != "not at all")


def test_without_a_validation_table_a_checkpoint_decides_as_it_is_shipped(
    model: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    classifier = Classifier.load(model)
    probabilities = classifier.predict(list(read_manifest(phantom_manifest)["image"]))["probability_tuberculosis"]
    classifier.temperature, classifier.threshold = 2.0, float(probabilities.quantile(0.75))
    classifier.save(model)
    no_tracking = TrackingConfig(enabled=False)

    config = EvaluateModelConfig(
        model=str(model),
        manifest=[str(phantom_manifest)],
        output=str(tmp_path / "out"),
        resamples=20,
        tracking=no_tracking,
    )
    evaluate_model(config)

    evaluated = json.loads((tmp_path / "out" / "clean" / "report.json").read_text())["models"]["cross_entropy"]
    table = pd.read_csv(tmp_path / "out" / "clean" / "predictions.csv")
    own = table[["probability_normal", "probability_tuberculosis"]].to_numpy()
    ill = (table["label"] == "tuberculosis").to_numpy()
    there = evaluated["sites"]["Alder"]
    assert evaluated["temperature"] == 2.0
    assert evaluated["rule"]["threshold"] == classifier.threshold
    right = (own[:, 1] >= classifier.threshold) == ill
    assert 0 < there["result"]["confusion"][0][1] + there["result"]["confusion"][1][1] < len(own)
    assert there["result"]["metrics"]["accuracy"]["estimate"] == pytest.approx(right.mean())
    assert there["calibration"]["tuberculosis"]["brier"] == pytest.approx(((own[:, 1] - ill) ** 2).mean())
    scaled = with_temperature(own, 2.0)[:, 1]
    assert there["calibration_scaled"]["tuberculosis"]["brier"] == pytest.approx(((scaled - ill) ** 2).mean())
    assert "Temperature shipped with the model: 2.000" in (tmp_path / "out" / "clean" / "report.html").read_text(
        encoding="utf-8"
    )


def test_evaluating_the_predictions_again_gives_the_same_numbers_everywhere(
    trained: Path, external_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = trained / "validation" / "clean" / "predictions.csv"
    model, again = tmp_path / "model" / "clean", tmp_path / "again"
    controls = ("thumbnail", "border", "mask_shape")
    settings = ["--resamples=20", "--seed=3", "--tracking.enabled=false"]

    main(
        [
            "evaluate-model",
            f"--model={trained / 'best.pt'}",
            f"--manifest=[{external_manifest}]",
            f"--output={model.parent}",
            f"--validation={validation}",
            "--occluded=0",
            *settings,
        ]
    )
    first = capsys.readouterr().out
    main(
        [
            "evaluate",
            f"--predictions=cross_entropy={model / 'predictions.csv'}",
            f"--validation=cross_entropy={validation}",
            "--controls",
            *[f"{name}={model.parent / name / 'predictions.csv'}" for name in controls],
            f"--output={again}",
            *settings,
        ]
    )
    second = capsys.readouterr().out

    assert first == f"clean\n{second}"
    assert json.loads((again / "report.json").read_text()) == json.loads((model / "report.json").read_text())
    assert (again / "metrics.csv").read_bytes() == (model / "metrics.csv").read_bytes()
    assert (again / "model_card.md").read_bytes() == (model / "model_card.md").read_bytes()


def test_relevance_is_looked_at_closer_and_against_what_experts_marked(
    model: Path, external_manifest: Path, tmp_path: Path
) -> None:
    images = read_manifest(external_manifest).query("mask != ''")["image"].tolist()[:3]
    boxes, scores = tmp_path / "boxes.csv", tmp_path / "scores.csv"
    boxes.write_text("image,x,y,width,height\n" + "".join(f"{image},10,10,30,30\n" for image in images))
    scores.write_text("image,A,B,C,D,E,F\n" + "".join(f"{image},0,1,2,3,3,2\n" for image in images))
    config = EvaluateModelConfig(
        model=str(model),
        manifest=[str(external_manifest)],
        output=str(tmp_path / "out"),
        boxes=str(boxes),
        zone_scores=str(scores),
        occluded=4,
        resamples=20,
        tracking=TrackingConfig(enabled=False),
    )

    text = evaluate_model(config)

    assert all(f"  {name}: " in text for name in ("occlusion_gain", "lung_excess", "on_finding", "zone_agreement"))
    table = pd.read_csv(tmp_path / "out" / "relevance_checks.csv")
    assert table["occlusion_gain"].notna().sum() == 4
    assert table["on_finding"].notna().sum() == 3


def test_without_occluded_and_tables_nothing_more_is_looked_at(
    model: Path, external_manifest: Path, tmp_path: Path
) -> None:
    config = EvaluateModelConfig(
        model=str(model), manifest=[str(external_manifest)], output=str(tmp_path / "out"), occluded=0, resamples=20,
        tracking=TrackingConfig(enabled=False),
    )  # fmt: skip

    assert "looked at closer" not in evaluate_model(config)
    assert not (tmp_path / "out" / "relevance_checks.csv").exists()
