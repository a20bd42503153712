"""The bundle, run by MONAI's own command line in another folder, gives the classifier's probabilities."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import verify_metadata, verify_net_in_out
from monai.bundle.workflows import ConfigWorkflow
from sklearn.metrics import roc_auc_score

from cxr_isnet.cli import main
from cxr_isnet.files import DISCLAIMER
from cxr_isnet.inference import Classifier

jsonschema = pytest.importorskip("jsonschema", reason="pip install 'cxr-isnet[export]'")
pytest.importorskip("fire", reason="pip install 'cxr-isnet[export]'")
PROJECT = Path(__file__).resolve().parents[3]
TENSOR = {
    "type": "object",
    "required": [
        "type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def",
    ],
    "properties": {
        "type": {"type": "string"},
        "format": {"type": "string"},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["integer", "string"]}},
        "dtype": {"type": "string"},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "patternProperties": {"^[0-9]+$": {"type": "string"}}},
    },
}  # fmt: skip
TEXTS = ("version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors", "copyright")
SCHEMA = {
    "type": "object",
    "required": ["schema", *TEXTS, "changelog", "required_packages_version", "network_data_format"],
    "properties": {
        **{name: {"type": "string", "minLength": 1} for name in TEXTS},
        "changelog": {"type": "object", "additionalProperties": {"type": "string"}},
        "required_packages_version": {"type": "object", "additionalProperties": {"type": "string"}},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {
                "inputs": {"type": "object", "additionalProperties": TENSOR},
                "outputs": {"type": "object", "additionalProperties": TENSOR},
            },
        },
    },
}
"""What `meta_schema_20240725.json` of Project MONAI requires of `metadata.json`, and more, without a download."""


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    main(["export", "bundle", str(trained / "best.pt"), "-o", str(folder)])
    return folder


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open() as lines:
        rows = [row for row in csv.reader(lines) if row and row[0] != "filename"]
    return [row[0] for row in rows], np.array([[float(cell) for cell in row[1:]] for row in rows])


def test_monai_runs_it_and_gives_the_probabilities_of_the_classifier(
    bundle: Path, trained: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    images = phantom_manifest.parent / "images"

    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--dataset_dir", str(images), "--output_dir", str(tmp_path)]
    subprocess.run(command, cwd=bundle, check=True, env={**os.environ, "PYTHONPATH": str(PROJECT)})

    paths, probabilities = read_table(tmp_path / "predictions.csv")
    expected = Classifier.load(trained / "best.pt").predict(sorted(map(str, images.iterdir())))
    assert paths == list(expected["path"])
    np.testing.assert_allclose(probabilities, expected.drop(columns="path").to_numpy(), atol=1e-5)


def test_monai_evaluates_a_manifest_with_it(
    bundle: Path, trained: Path, external_manifest: Path, tmp_path: Path
) -> None:
    configs = [str(bundle / "configs" / f"{name}.json") for name in ("inference", "evaluate")]
    places = {"bundle_root": str(bundle), "manifest": str(external_manifest), "output_dir": str(tmp_path)}
    workflow = ConfigWorkflow(configs, logging_file=False, workflow_type="infer", **places)

    workflow.initialize()
    workflow.run()

    table = pd.read_csv(external_manifest)
    images = [str(external_manifest.parent / path) for path in table["image"]]
    probability = Classifier.load(trained / "best.pt").predict(images)["probability_tuberculosis"]
    expected = roc_auc_score(table["label"] == "tuberculosis", probability)
    assert workflow.evaluator.state.metrics["auc"] == pytest.approx(expected)
    assert workflow.check_properties() == []
    assert read_table(tmp_path / "predictions.csv")[0] == images


def test_metadata_are_valid(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    metadata = bundle / "configs" / "metadata.json"

    verify_metadata(meta_file=str(metadata), filepath=str(tmp_path / "schema.json"))

    broken = json.loads(metadata.read_text())
    del broken["network_data_format"]["outputs"]["pred"]["channel_def"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_the_network_takes_and_gives_what_the_metadata_say(bundle: Path) -> None:
    configs = bundle / "configs"

    verify_net_in_out("network_def", str(configs / "metadata.json"), str(configs / "inference.json"), device="cpu")


def test_weights_are_read_without_running_code_and_nothing_names_this_machine(bundle: Path, trained: Path) -> None:
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)

    network = Classifier.load(trained / "best.pt").network.state_dict()
    assert all(torch.equal(weights[name], values) for name, values in network.items())
    assert weights.keys() == network.keys()
    texts = [path.read_text() for path in bundle.rglob("*") if path.suffix in (".json", ".md")]
    assert len(texts) == 4
    assert not any(str(PROJECT) in text or str(trained) in text for text in texts)


def test_it_says_how_images_are_prepared_and_what_it_is_not(bundle: Path) -> None:
    about = json.loads((bundle / "configs" / "metadata.json").read_text())
    card = (bundle / "docs" / "README.md").read_text()

    assert about["disclaimer"] == about["intended_use"] == DISCLAIMER
    assert about["image"] == {"size": 32, "equalize": True}
    assert about["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "normal", "1": "tuberculosis"}
    assert DISCLAIMER in card
    assert "32 x 32" in card
    assert "equalised" in card
