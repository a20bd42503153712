"""A linear classifier on the features of a network that is left as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cxr_isnet.networks import TIMM, last_layer, timm_model
from cxr_isnet.objectives.cross_entropy import CrossEntropy
from cxr_isnet.objectives.frozen import PartlyFrozen
from cxr_isnet.objectives.method import Method


@dataclass(frozen=True)
class LinearProbeOptions:
    """Settings of the linear probe.

    Attributes:
        encoder: What the features are of: `best.pt` of a training of the same network, by whatever method; or a file
            with a state dict of the network; or `timm:NAME`, a pretrained model of timm, which has to be installed and
            takes the network's place.
    """

    encoder: str | None = None

    @property
    def timm_model(self) -> str | None:
        """Name of the timm model; None for another encoder."""
        return self.encoder.removeprefix(TIMM) if self.encoder and self.encoder.startswith(TIMM) else None


class LinearProbe(PartlyFrozen):
    """Features of a frozen encoder, and a linear layer, the last, which alone is trained.

    Args:
        encoder: Images (B, 1, H, W) to features (B, F).
        head: Features to logits (B, classes).

    Source:
        Kumar et al., ICLR 2022 (arXiv 2202.10054), linear probing.
    """

    frozen = "encoder"
    encoder: nn.Module

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__(encoder)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


class TimmEncoder(nn.Module):
    """Features of a model of timm of grey images in [0, 1], which are normalised as its colour channels were.

    Args:
        model: Made by timm without a classifier: images (B, 3, H, W) to features (B, F).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(model.pretrained_cfg[name])[:, None, None])  # type: ignore[index]

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network((images.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return features


def without_last_layer(network: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """The network, changed to give the input of its last linear layer, and that layer."""
    name, head = last_layer(network)
    network.set_submodule(name, nn.Identity())
    return network, head


def _predictor(network: nn.Module, options: LinearProbeOptions) -> LinearProbe:
    if options.timm_model is None:
        return LinearProbe(*without_last_layer(network))
    model = timm_model(options.timm_model, pretrained=False, num_classes=0)
    _, head = last_layer(network)
    return LinearProbe(TimmEncoder(model), nn.Linear(int(model.num_features), head.out_features))  # type: ignore[arg-type]


LINEAR_PROBE = Method(
    "linear_probe",
    "a linear classifier on the features of a frozen encoder",
    LinearProbeOptions,
    lambda network, backbone, options: CrossEntropy(network),
    predictor=_predictor,
    frozen=LinearProbe.frozen,
)
