"""`cxr-isnet explain` on phantoms in DICOM."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from cxr_isnet.cli import main
from cxr_isnet.commands.explain import ExplainConfig
from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig, build_network


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    network = build_network(config, 2, 32).eval()
    Classifier(network, config, ("normal", "tuberculosis"), ImageConfig(size=32), "cross_entropy").save(
        tmp_path / "best.pt"
    )
    return tmp_path / "best.pt"


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
