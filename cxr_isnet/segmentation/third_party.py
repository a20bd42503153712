"""Lung segmenters of other packages, used where the user has installed them: their networks behind our interface.

Their weights are downloaded by those packages and have their own terms.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import torch
from torch import Tensor, nn

from cxr_isnet.config import choose
from cxr_isnet.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ThirdPartySegmenter:
    """A lung segmenter of another package.

    Attributes:
        name: As the user writes it in place of a checkpoint: the package, a colon, its model.
        package: To install.
        size: Rows and columns of its images.
        build: From the imported package, a network of images (B, 1, size, size) float32 in [0, 1], not equalised, to
            logits (B, 1, size, size) of the lungs.
    """

    name: str
    package: str
    size: int
    build: Callable[[ModuleType], nn.Module]

    def load(self) -> tuple[nn.Module, str]:
        """The network in evaluation mode, and the package's version.

        Raises:
            InputError: The package is not installed, or its weights cannot be loaded.
        """
        try:
            module, installed = importlib.import_module(self.package), version(self.package)
        except (ImportError, PackageNotFoundError, RuntimeError) as error:
            raise InputError(
                f"segmenter '{self.name}' needs the package {self.package}: {error}. Install it (pip install "
                f"{self.package}), or give best.pt of `cxr-isnet segment train`"
            ) from error
        try:
            return self.build(module).eval(), installed
        except Exception as error:  # whatever another package's download raises
            raise InputError(f"segmenter '{self.name}': {self.package} {installed} did not load it: {error}") from error


def find_third_party(name: str) -> ThirdPartySegmenter | None:
    """The segmenter that `PACKAGE:MODEL` names; None for the path of a checkpoint.

    Raises:
        InputError: The package is known, the model is not.
    """
    if name.partition(":")[0] not in {segmenter.package for segmenter in THIRD_PARTY}:
        return None
    return choose("segmenter", name, THIRD_PARTY)


class _ChestXDet(nn.Module):
    """TorchXRayVision's PSPNet, trained on ChestX-Det; the lungs leave the heart out."""

    def __init__(self, package: ModuleType) -> None:
        super().__init__()
        self.network = importlib.import_module(f"{package.__name__}.baseline_models.chestx_det").PSPNet()
        self.lungs = [self.network.targets.index(name) for name in ("Left Lung", "Right Lung")]

    def forward(self, images: Tensor) -> Tensor:
        """The greater logit of both lungs; its images lie in [-1024, 1024]."""
        maps: Tensor = self.network(images * 2048 - 1024)
        return maps[:, self.lungs].amax(dim=1, keepdim=True)


class _PaxRay(nn.Module):
    """CXAS's U-Net, trained on projected CT; the lungs include what lies behind heart and diaphragm."""

    mean: Tensor
    sd: Tensor

    def __init__(self, package: ModuleType) -> None:
        super().__init__()
        labels = importlib.import_module(f"{package.__name__}.label_mapper").id2label_dict
        self.network = package.CXAS(gpus="cpu").model
        self.lung = next(int(index) for index, label in labels.items() if label == "lung")
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("sd", torch.tensor(IMAGENET_SD)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """The logit of class "lung"; its images have three channels, normalised as ImageNet's."""
        found = self.network({"data": (images - self.mean) / self.sd})
        logits: Tensor = found["logits"]
        return logits[:, self.lung : self.lung + 1]


THIRD_PARTY = (
    ThirdPartySegmenter("torchxrayvision:chestx_det", "torchxrayvision", 512, _ChestXDet),
    ThirdPartySegmenter("cxas:UNet_ResNet50_default", "cxas", 512, _PaxRay),
)
"""The known ones. Sources: torchxrayvision 1.5.7 (`baseline_models.chestx_det`; Lian et al. 2021, arXiv:2104.10326);
cxas 0.0.20 (`CXAS`; Seibold et al., BMVC 2022)."""
