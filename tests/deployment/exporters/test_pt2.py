"""The exported program gives the classifier's probabilities, at any batch size and without the package."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr_isnet.cli import main
from cxr_isnet.config import as_plain
from cxr_isnet.data import ImageConfig
from cxr_isnet.deployment.exporters.pt2 import EXPORTER
from cxr_isnet.files import DISCLAIMER
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig, SegmenterConfig, build_network, build_segmenter
from cxr_isnet.objectives import LungClassifier


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    main(["export", "pt2", str(trained / "best.pt"), "-o", str(folder)])
    return folder


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_probabilities_are_those_of_the_classifier(batch: int, exported: Path, trained: Path) -> None:
    images = torch.rand(batch, 1, 32, 32, generator=torch.Generator().manual_seed(batch))

    answer = torch.export.load(exported / "model.pt2").module()(images)

    torch.testing.assert_close(answer, Classifier.load(trained / "best.pt").probabilities(images), atol=1e-5, rtol=0)


def test_it_runs_without_this_package(exported: Path, trained: Path, tmp_path: Path) -> None:
    images = torch.rand(3, 1, 32, 32)
    np.save(tmp_path / "images.npy", images.numpy())
    code = f"""
import sys
sys.modules["cxr_isnet"] = sys.modules["monai"] = None
import numpy, torch
program = torch.export.load({str(exported / "model.pt2")!r}).module()
numpy.save("answer.npy", program(torch.from_numpy(numpy.load("images.npy"))).detach().numpy())
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)

    expected = Classifier.load(trained / "best.pt").probabilities(images)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-5)


def test_it_says_how_images_are_prepared_and_what_it_is_not(exported: Path) -> None:
    about = json.loads((exported / "model.json").read_text())

    assert about["classes"] == ["normal", "tuberculosis"]
    assert about["image"] == {"size": 32, "equalize": True}
    assert about["input"]["shape"] == ["batch", 1, 32, 32]
    assert about["disclaimer"] == DISCLAIMER


def test_no_path_of_the_exporting_machine_is_in_the_file(exported: Path) -> None:
    with zipfile.ZipFile(exported / "model.pt2") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())

    assert str(Path(torch.__file__).parent).encode() not in content


def test_an_unknown_format_is_answered_with_those_there_are(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["export", "pt3", str(trained / "best.pt"), "-o", str(tmp_path / "model")])

    assert "format is 'pt3' (did you mean 'pt2'?); known: pt2, onnx, bundle" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_what_segments_the_lungs_first_is_exported_as_a_whole(tmp_path: Path) -> None:
    network, segmenter = NetworkConfig("densenet_tiny"), SegmenterConfig((4, 8))
    predictor = LungClassifier(build_network(network, 2, 32), build_segmenter(segmenter), 48).eval()
    options = {"segmenter_network": as_plain(segmenter), "segmenter_size": 48}
    classifier = Classifier(predictor, network, ("a", "b"), ImageConfig(32), "two_stage", options=options)
    images = torch.rand(3, 1, 32, 32)

    EXPORTER.write(classifier, tmp_path)

    answer = torch.export.load(tmp_path / "model.pt2").module()(images)
    torch.testing.assert_close(answer, classifier.probabilities(images), atol=1e-5, rtol=0)
