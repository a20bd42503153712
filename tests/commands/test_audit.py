"""`cxr-isnet audit` as a whole, in miniature."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from cxr_isnet.audit.probes import PROBES
from cxr_isnet.commands.audit import AuditConfig, audit
from cxr_isnet.deployment import model_package
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.tracking import TrackingConfig

pytestmark = pytest.mark.usefixtures("few_marks")


@pytest.fixture
def config(trained: Path, phantom_manifest: Path, external_manifest: Path, tmp_path: Path) -> AuditConfig:
    return AuditConfig(
        str(trained / "best.pt"),
        [str(phantom_manifest), str(external_manifest)],
        str(tmp_path / "out"),
        size=32,
        resamples=20,
        tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"),
    )


def test_it_writes_json_a_page_and_a_run(config: AuditConfig, tmp_path: Path) -> None:
    table = audit(config)

    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [p["name"] for p in content["probes"]] == [p.name for p in PROBES]
    assert content["n_images"] == content["n_patients"] == 20
    assert content["sites"] == ["Alder", "Birch"]
    for probe in content["probes"]:
        assert probe["rule"] in [p.rule for p in PROBES]
        assert probe["statistics"], probe["name"]
        assert set(probe["statistics"][0]) == {
            "name", "value", "low", "high", "n_images", "threshold", "p_value",
        }  # fmt: skip
    page = (tmp_path / "out" / "audit.html").read_text()
    assert content["verdict"] in page
    assert all(p.title in page and p.name in page for p in PROBES)
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=.(?!data:|#)", page)
    assert "PHANTOM" not in page + json.dumps(content)
    assert all(p.title in table for p in PROBES)
    (run,) = mlflow.MlflowClient(config.tracking.uri).search_runs(["1"])
    assert run.data.tags["audit.verdict"] == content["verdict"]
    assert "audit.sign" in run.data.metrics


def test_a_model_of_mlflow_is_audited_by_its_probabilities_alone(
    config: AuditConfig, trained: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "model"
    code = Path(model_package.__file__).with_name("pyfunc_model.py")
    mlflow.pyfunc.save_model(
        str(saved), python_model=str(code), artifacts={"checkpoint": str(trained / "best.pt")},
        pip_requirements=["torch"],
    )  # fmt: skip

    audit(replace(config, model=str(saved), size=64, tracking=TrackingConfig(enabled=False, uri=config.tracking.uri)))

    found = {p["name"]: p for p in json.loads((tmp_path / "out" / "audit.json").read_text())["probes"]}
    left_out = {name: p["reason"] for name, p in found.items() if p["verdict"] == "not applicable"}
    assert left_out == {
        "site_probe": "the model gives no features",
        "weight_randomisation": "the model gives no heatmaps and no heatmaps of random weights",
        "relevance_share": "the model gives no heatmaps",
        "pixel_erasure": "the model gives no heatmaps",
    }
    assert found["hidden_lungs"]["p_value"] is not None


def test_wrong_settings_are_refused(config: AuditConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="most_images is 3: at least 10"):
        replace(config, most_images=3)
    with pytest.raises(InputError, match="manifest is an empty list"):
        replace(config, manifest=[])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        audit(config)


def test_labels_must_be_classes_of_the_model(config: AuditConfig, trained: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(trained / "best.pt")
    classifier.classes = ("normal", "covid")
    classifier.save(tmp_path / "other.pt")

    with pytest.raises(InputError, match="tuberculosis"):
        audit(replace(config, model=str(tmp_path / "other.pt")))
