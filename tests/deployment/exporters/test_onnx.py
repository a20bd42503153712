"""The ONNX graph gives the classifier's probabilities in ONNX Runtime, at any batch size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr_isnet.cli import main
from cxr_isnet.files import DISCLAIMER
from cxr_isnet.inference import Classifier

onnx = pytest.importorskip("onnx", reason="pip install 'cxr-isnet[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'cxr-isnet[export]'")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    main(["export", "onnx", str(trained / "best.pt"), "-o", str(folder)])
    return folder


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_probabilities_are_those_of_the_classifier(batch: int, exported: Path, trained: Path) -> None:
    images = torch.rand(batch, 1, 32, 32, generator=torch.Generator().manual_seed(batch))
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])

    (answer,) = session.run(["probabilities"], {"images": images.numpy()})

    expected = Classifier.load(trained / "best.pt").probabilities(images)
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-5, rtol=0)


def test_the_file_says_how_images_are_prepared_and_what_it_is_not(exported: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    about = json.loads((exported / "model.json").read_text())

    said = {entry.key: entry.value for entry in model.metadata_props}
    assert model.doc_string == said["disclaimer"] == about["disclaimer"] == DISCLAIMER
    assert json.loads(said["image"]) == about["image"] == {"size": 32, "equalize": True}
    assert json.loads(said["classes"]) == ["normal", "tuberculosis"]


def test_no_path_of_the_exporting_machine_is_in_the_file(exported: Path) -> None:
    content = (exported / "model.onnx").read_bytes()

    assert str(Path(torch.__file__).parent).encode() not in content
    assert b".py" not in content


def test_without_the_extra_it_says_what_to_install(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(SystemExit):
        main(["export", "onnx", str(trained / "best.pt"), "-o", str(tmp_path / "model")])

    assert "format 'onnx' needs onnx, onnxscript: pip install 'cxr-isnet[export]'" in capsys.readouterr().err
