"""`cxr-isnet audit` as a whole, in miniature."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from cxr_isnet.audit.probes import PROBES, imposed_changes
from cxr_isnet.commands.audit import AuditConfig, audit
from cxr_isnet.deployment import load_classifier, model_package
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.tracking import TrackingConfig

pytestmark = pytest.mark.usefixtures("few_changes")


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
    assert [p["name"] for p in content["probes"]][: len(PROBES)] == [p.name for p in PROBES]
    assert set(content["statement"]) == {"found", "examined", "open", "not_examined"}
    assert content["training"]["sites"] == ["Alder"]
    assert content["n_images"] == content["n_patients"] == 20
    assert content["sites"] == ["Alder", "Birch"]
    for probe in content["probes"]:
        assert probe["rule"] in [p.rule for p in PROBES]
        for statistic in probe["statistics"]:
            assert set(statistic) == {
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
    assert run.info.run_name == "audit of cross_entropy on Alder, Birch (out)"
    assert (run.data.tags["kind"], run.data.tags["method"]) == ("audit", "cross_entropy")
    metrics = set(run.data.metrics)
    assert {"audit/shortcut_found", "audit/whole_images/auc_whole_images"} <= metrics
    kinds = {m.split("/")[2] for m in metrics if m.startswith("audit/imposed_changes/")}
    assert {f"{k.replace(' ', '_').lower()}_auc_move" for k in imposed_changes.kinds()} <= kinds
    assert all(re.fullmatch(r"audit/[a-z_]+(/[a-z0-9_.]+)?", metric) for metric in metrics)


@pytest.fixture
def logged(trained: Path, tmp_path: Path) -> Path:
    """The classifier as MLflow stores it; its code would fail."""
    saved, code = tmp_path / "model", tmp_path / "pyfunc_model.py"
    code.write_text(Path(model_package.__file__).with_name("pyfunc_model.py").read_text())
    mlflow.pyfunc.save_model(
        str(saved), python_model=str(code), artifacts={"checkpoint": str(trained / "best.pt")},
        pip_requirements=["torch"],
    )  # fmt: skip
    (saved / "pyfunc_model.py").write_text("raise SystemExit('the code of the model was run')")
    return saved


def test_a_model_that_this_package_logged_is_audited_whole_without_running_its_code(
    config: AuditConfig, logged: Path, tmp_path: Path
) -> None:
    audit(replace(config, model=str(logged), tracking=TrackingConfig(enabled=False, uri=config.tracking.uri)))

    found = {p["name"]: p for p in json.loads((tmp_path / "out" / "audit.json").read_text())["probes"]}
    assert [p["name"] for p in found.values() if "gives no" in p["reason"]] == []


def test_predictions_of_a_logged_model_do_not_run_its_code(logged: Path, config: AuditConfig, trained: Path) -> None:
    loaded = load_classifier(str(logged), config.tracking.uri)

    assert loaded.digest() == Classifier.load(trained / "best.pt").digest()


def test_a_model_of_others_is_audited_by_its_probabilities_alone_and_only_if_trusted(
    config: AuditConfig, tmp_path: Path
) -> None:
    code, saved = tmp_path / "theirs.py", tmp_path / "theirs"
    code.write_text(THEIRS)
    mlflow.pyfunc.save_model(str(saved), python_model=str(code), pip_requirements=["pandas"])
    theirs = replace(config, model=str(saved), size=64, tracking=TrackingConfig(enabled=False, uri=config.tracking.uri))
    with pytest.raises(InputError, match="--trust true"):
        audit(theirs)

    audit(replace(theirs, trust=True))

    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    found = {p["name"]: p for p in content["probes"]}
    left_out = {name: p["reason"] for name, p in found.items() if "the model gives no" in p["reason"]}
    assert left_out == {
        "site_probe": "the model gives no features",
        "weight_randomisation": "the model gives no heatmaps and no heatmaps of random weights",
        "relevance_share": "the model gives no heatmaps",
        "pixel_erasure": "the model gives no heatmaps",
    }
    assert found["hidden_lungs"]["p_value"] is not None
    assert content["training"] is None
    assert any("name them with --training" in entry for entry in content["statement"]["not_examined"])


THEIRS = """
import mlflow, pandas
from PIL import Image

class Corner(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        grey = [Image.open(path, formats=["PNG"]).getpixel((1, 1)) / 65535 for path in model_input]
        return pandas.DataFrame({"probability_normal": [1 - g for g in grey], "probability_tuberculosis": grey})

mlflow.models.set_model(Corner())
"""


def test_the_training_hospitals_are_those_that_the_folder_of_the_checkpoint_names(
    config: AuditConfig, tmp_path: Path, phantom_manifest: Path
) -> None:
    audit(replace(config, training=[str(phantom_manifest)]))
    named = json.loads((tmp_path / "out" / "audit.json").read_text())["training"]
    audit(replace(config, output=str(tmp_path / "second"), training=[]))
    left_out = json.loads((tmp_path / "second" / "audit.json").read_text())

    assert named == {"sites": ["Alder"], "n_images": 10, "n_held_out": 0}
    assert left_out["training"] is None


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
