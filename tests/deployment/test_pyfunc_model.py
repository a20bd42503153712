"""The registered model: it answers as the classifier, takes any input, and is whole: it loads where nothing else is."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from PIL import Image

from cxr_isnet.data import ImageConfig
from cxr_isnet.deployment import log_classifier, model_package
from cxr_isnet.inference import Classifier, FeatureReference, as_sources, predict_sources
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.tracking import TrackingConfig, load_model, start_run

COLUMNS = ["probability_normal", "probability_tuberculosis"]


@pytest.fixture(scope="module")
def images(phantom_manifest: Path) -> list[str]:
    return sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[:3]


def make_classifier() -> Classifier:
    """With everything that a training ships."""
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    network = build_network(config, 2, 32).eval()
    features = network.class_layers.out.in_features
    reference = FeatureReference(torch.zeros(features), torch.eye(features), 1e6)
    return Classifier(
        network, config, ("normal", "tuberculosis"), ImageConfig(32), "isnet",
        temperature=2.0, threshold=0.4, reference=reference,
    )  # fmt: skip


@pytest.fixture
def shipped() -> Classifier:
    return make_classifier()


@pytest.fixture
def model(shipped: Classifier, tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Its answer as MLflow asks for it, without MLflow."""
    shipped.save(tmp_path / "best.safetensors")
    code = Path(model_package.__file__).with_name("pyfunc_model.py")
    loaded = runpy.run_path(str(code))["ChestXrayModel"]()
    loaded.load_context(SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "best.safetensors")}))
    return lambda given, **params: loaded.predict(None, given, params)


def test_the_model_answers_as_the_classifier_of_its_checkpoint(model, shipped: Classifier, images: list[str]) -> None:
    for calibrated in (False, True):
        expected = shipped.predict(images, calibrated=calibrated)

        answer = model(images, calibrated=calibrated)

        pd.testing.assert_frame_equal(answer[expected.columns], expected, check_exact=True)
        assert set(answer["error"]) == {""}


def test_the_decision_is_that_of_the_networks_own_probability_at_the_shipped_threshold(
    model, shipped: Classifier, images: list[str]
) -> None:
    own = shipped.predict(images)["probability_tuberculosis"]
    decisions = {}
    for threshold in (float(own.min()), float(own.max()) + 1e-6):
        shipped.threshold = threshold
        answer = model_of(shipped, images, calibrated=True)
        decisions[threshold] = list(answer["decision"])
        most = np.where(answer["probability_tuberculosis"] > 0.5, "tuberculosis", "normal")
        assert list(answer["predicted"]) == list(most)

    assert list(decisions.values()) == [["tuberculosis"] * 3, ["normal"] * 3]


def model_of(classifier: Classifier, given: list[str], **asked: bool) -> pd.DataFrame:
    return predict_sources(classifier, as_sources(given), **asked)


def test_every_kind_of_input_gives_the_same_answer(model, images: list[str]) -> None:
    expected = model(images)[COLUMNS]
    contents = [Path(image).read_bytes() for image in images]
    texts = [base64.b64encode(content).decode() for content in contents]
    frame = pd.DataFrame({"label": 0, "path": images})
    kinds = [
        list(map(Path, images)), tuple(images), pd.Series(images), np.array(images), np.array(images, dtype=object),
        frame, frame[["path"]].rename(columns={"path": "0"}), {"path": images}, contents, texts,
        pd.DataFrame({"path": texts}),
    ]  # fmt: skip

    for given in kinds:
        pd.testing.assert_frame_equal(model(given)[COLUMNS], expected, check_exact=True)
    for one in (images[0], Path(images[0]), contents[0], texts[0]):
        pd.testing.assert_frame_equal(model(one)[COLUMNS], expected[:1])
    assert list(model([])[COLUMNS].columns) == COLUMNS
    assert not len(model([]))


def test_a_bad_one_among_many_is_a_row_with_its_error(model, images: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    bad = ["nowhere.png", str(tmp_path / "broken.png"), None, 3.5, "", b"nothing", "A" * 5000, "a\0b", str(tmp_path)]
    given = [images[0], *bad, images[1]]

    answer = model(given)

    assert list(answer["error"] == "") == [True, *[False] * len(bad), True]
    assert answer.loc[answer["error"] != "", COLUMNS].isna().all(axis=None)
    assert set(answer.loc[answer["error"] != "", "decision"]) == {""}
    pd.testing.assert_frame_equal(
        answer[COLUMNS].iloc[[0, -1]], model(images[:2])[COLUMNS].set_index(answer.index[[0, -1]])
    )


def test_what_dicom_says_of_itself_comes_with_the_answer(model, images: list[str]) -> None:
    def changed(**tags: str) -> bytes:
        dataset = pydicom.dcmread(images[0])
        for name, value in tags.items():
            setattr(dataset, name, value)
        stream = io.BytesIO()
        dataset.save_as(stream)
        return stream.getvalue()

    given = [
        changed(), changed(PatientAge="007Y"), changed(PatientAge="018Y"), changed(ViewPosition="LL"),
        changed(BodyPartExamined="HAND"), changed(ViewPosition="", PatientOrientation=""), changed(Modality="CT"),
    ]  # fmt: skip
    answer = model(given)

    assert json.loads(answer["provenance"][0])["modality"] == "CR"
    assert "PHANTOM" not in answer.to_csv()
    assert list(answer["view"]) == ["PA", "PA", "PA", "lateral", "", "unknown", ""]
    assert list(answer["warnings"]) == ["", "child of 7.0 years", "", "not a frontal view (lateral)", "", "", ""]
    assert answer["flags"][5] == "unknown_view"
    assert "another part than the chest" in answer["error"][4]
    assert "Modality" in answer["error"][6]
    assert answer.loc[[0, 1, 2, 3, 5], "error"].eq("").all()


def test_an_image_far_from_those_of_training_is_reported(shipped: Classifier, images: list[str]) -> None:
    near, reference = model_of(shipped, images), shipped.reference
    shipped.reference = replace(reference, limit=reference.limit * 1e-12)

    far = model_of(shipped, images)

    assert near["distance"].lt(1).all()
    np.testing.assert_allclose(far["distance"], near["distance"] * 1e12, rtol=1e-6)
    assert set(near["warnings"]) == {""}
    assert far["warnings"].str.startswith("far from the training images").all()
    largest = float(near["distance"].max())
    for distance, words in ((1.49, "unlike the training images"), (1.51, "far from the training images")):
        shipped.reference = replace(shipped.reference, limit=reference.limit * largest / distance)
        answer = model_of(shipped, images)
        assert answer.loc[answer["distance"].idxmax(), "warnings"].startswith(words)


def test_a_heatmap_is_a_picture_of_the_size_of_the_network(model, images: list[str]) -> None:
    answer = model([images[0], "nowhere.png"], heatmap=True)

    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["heatmap"][0]))))
    assert picture.shape == (32, 32, 3)
    assert np.ptp(picture.astype(int), axis=2).max() > 0  # colour: relevance
    assert answer["heatmap"][1] == ""
    pd.testing.assert_frame_equal(answer[COLUMNS], model([images[0], "nowhere.png"])[COLUMNS], check_exact=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def logged(store: str, images: list[str]) -> Path:
    """Folder of a model as it lies in a store."""
    with start_run(TrackingConfig(uri=store), kind="test", name="a run", parameters={}) as run:
        reference = log_classifier(run, make_classifier(), images, register="lungs")
        assert reference is not None
        return Path(run.client.get_logged_model(reference.model_id).artifact_location.removeprefix("file://"))


def test_it_is_loaded_from_the_registry(logged: Path, store: str, shipped: Classifier, images: list[str]) -> None:
    answer, expected = load_model("models:/lungs/1", store).predict(images), shipped.predict(images)

    pd.testing.assert_frame_equal(answer[expected.columns], expected, check_exact=True)


ALONE = """
import json, sys
import mlflow
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(sys.argv[2:])
import cxr_isnet
print(json.dumps({"code": cxr_isnet.__file__, "errors": list(answer["error"]), "p": list(answer.iloc[:, 2])}))
"""


def installed_for(requirements: list[str], folder: Path) -> None:
    """A folder of links to the packages that the requirements bring with them, and to nothing else."""
    queue, done = list(requirements), set[str]()
    while queue:
        name = re.sub("[-_.]+", "-", queue.pop()).lower()
        if name in done or not list(metadata.distributions(name=name)):
            continue
        done.add(name)
        found = metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
        queue += [re.match("[A-Za-z0-9._-]+", need)[0] for need in found.requires or [] if "extra ==" not in need]


def test_it_predicts_by_its_own_files_and_the_packages_that_it_requires_alone(
    logged: Path, shipped: Classifier, images: list[str], tmp_path: Path
) -> None:
    (tmp_path / "packages").mkdir()
    requirements = [line.split("==")[0] for line in (logged / "requirements.txt").read_text().split()]
    installed_for(requirements, tmp_path / "packages")
    start = f"import sys; sys.path += [{str(tmp_path / 'packages')!r}]\n"

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", start + ALONE, str(logged), *images],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], "HOME": "/tmp"},
    )  # fmt: skip

    assert not (tmp_path / "packages" / "sklearn").exists()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["code"]) == logged / "code" / "cxr_isnet" / "__init__.py"
    assert found["errors"] == [""] * 3
    assert found["p"] == list(shipped.predict(images)["probability_tuberculosis"])


def test_it_holds_no_pickle_and_no_path_of_this_machine(logged: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    files = [file for file in logged.rglob("*") if file.is_file()]
    project = Path(model_package.__file__).parents[2]

    assert {file.suffix for file in files} <= {
        "", ".py", ".txt", ".yaml", ".safetensors", ".json", ".html", ".md", ".css", ".typed"
    }  # fmt: skip
    for place in (str(tmp_path_factory.getbasetemp()), str(project), sys.prefix):
        assert [str(file) for file in files if place.encode() in file.read_bytes()] == []
    requirements = (logged / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert not {"mlflow", "pytorch-ignite", "scikit-learn", "matplotlib", "pandera", "simpleitk"} & {
        line.split("==")[0].lower() for line in requirements
    }


def test_it_is_evaluated_by_mlflow(logged: Path, phantoms: pd.DataFrame, store: str) -> None:
    model = load_model("models:/lungs/1", store)
    data = pd.DataFrame({"path": phantoms["image"], "label": phantoms["label"]})
    mlflow.set_tracking_uri(store)
    try:
        with mlflow.start_run():
            found = mlflow.models.evaluate(
                lambda frame: model.predict(frame)["decision"].to_numpy(),
                data, targets="label", model_type="classifier",
                evaluator_config={"log_model_explainability": False, "pos_label": "tuberculosis"},
            )  # fmt: skip
    finally:
        mlflow.set_tracking_uri(None)

    decisions = model.predict(data)["decision"]
    assert found.metrics["accuracy_score"] == pytest.approx((decisions == data["label"]).mean())
    assert found.metrics["true_positives"] == ((decisions == "tuberculosis") & (data["label"] == "tuberculosis")).sum()
