"""Segmenters of other packages, by stand-ins with the interface that their sources show."""

import sys
from types import ModuleType

import pytest
import torch

from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.segmentation import Segmenter, find_third_party, third_party


class PSPNet(torch.nn.Module):
    """As `torchxrayvision.baseline_models.chestx_det.PSPNet`: [-1024, 1024] to a logit map for each target."""

    targets = ("Heart", "Left Lung", "Spine", "Right Lung")

    def forward(self, images):
        assert images.min() >= -1024
        assert images.max() <= 1024
        left = images.new_full((1, 1, 1, images.shape[-1]), -5.0)
        left[..., : images.shape[-1] // 2] = 5
        lungs = images / 1024 + left, images / 1024 - left
        return torch.cat([images * 0 + 9, lungs[0], images * 0 + 9, lungs[1]], dim=1)


class PaxRayNetwork(torch.nn.Module):
    """As `cxas.CXAS().model`: a dictionary with normalised images of three channels to one with `logits`."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, file):
        assert file["data"].shape[1] == 3
        grey = file["data"] * torch.tensor(third_party.IMAGENET_SD)[:, None, None]
        grey = grey + torch.tensor(third_party.IMAGENET_MEAN)[:, None, None]
        return {"logits": torch.cat([grey[:, :1] * 0 - 9, grey[:, :1] - 0.5], dim=1)}


@pytest.fixture
def packages(monkeypatch):
    """Both packages, as if installed."""
    xrv, detector = ModuleType("torchxrayvision"), ModuleType("torchxrayvision.baseline_models.chestx_det")
    detector.PSPNet = PSPNet
    models = ModuleType("torchxrayvision.baseline_models")
    cxas, labels = ModuleType("cxas"), ModuleType("cxas.label_mapper")
    labels.id2label_dict = {"0": "spine", "1": "lung"}
    cxas.CXAS = lambda gpus: type("CXAS", (), {"model": PaxRayNetwork()})()
    for module in (xrv, models, detector, cxas, labels):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(third_party, "version", lambda package: "1.2.3")


def test_the_lungs_of_torchxrayvision_are_its_left_and_right_lung(packages):
    segmenter = Segmenter.load("torchxrayvision:chestx_det")
    images = torch.rand(2, 1, 512, 512)

    assert segmenter.image == ImageConfig(512, equalize=False)
    assert segmenter.mask_source == "torchxrayvision:chestx_det 1.2.3"
    assert torch.allclose(segmenter.network(images), images * 2 - 1 + 5, atol=1e-5)


def test_the_lungs_of_cxas_are_its_class_lung_of_the_normalised_image(packages):
    segmenter = Segmenter.load("cxas:UNet_ResNet50_default")
    images = torch.rand(2, 1, 64, 64)

    assert torch.allclose(segmenter.network(images), images - 0.5, atol=1e-5)
    assert segmenter.augmented_probabilities(images).shape == (2, 4, 64, 64)


def test_a_package_that_is_missing_is_told_with_the_remedy():
    with pytest.raises(InputError, match=r"needs the package cxas.*pip install cxas"):
        Segmenter.load("cxas:UNet_ResNet50_default")


def test_weights_that_do_not_come_are_an_error_that_names_the_segmenter(packages, monkeypatch):
    def fail(gpus):
        raise RuntimeError("no network")

    monkeypatch.setattr(sys.modules["cxas"], "CXAS", fail)

    with pytest.raises(InputError, match=r"cxas:UNet_ResNet50_default.*no network"):
        Segmenter.load("cxas:UNet_ResNet50_default")


def test_an_unknown_model_of_a_known_package_is_refused_and_a_path_is_none():
    with pytest.raises(InputError, match="torchxrayvision:chestx_det"):
        find_third_party("torchxrayvision:unet")
    assert find_third_party("runs/lungs/best.pt") is None
