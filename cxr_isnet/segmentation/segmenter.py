"""A trained segmenter: prepared images in, probability maps of several views out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr_isnet.data import ImageConfig
from cxr_isnet.engine.checkpoint import load_network, load_state, save_state
from cxr_isnet.errors import InputError
from cxr_isnet.manifests.checksums import file_digest
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter

SHIFT = 16
"""A shifted view is moved by 1 / SHIFT of the side, rows and columns alike; what leaves on one side enters opposite."""

_KIND = "lung_segmenter"


@dataclass
class Segmenter:
    """A trained lung segmenter.

    Attributes:
        network: Images (B, 1, size, size) in [0, 1] to logits of the same shape, in evaluation mode.
        config: Which network it is.
        image: How files become images, the same as in training.
        digest: SHA-256 of the file it was read from; "" before it is in a file.
    """

    network: nn.Module
    config: SegmenterConfig
    image: ImageConfig
    digest: str = ""

    def save(self, path: Path) -> None:
        """Writes the segmenter to one file, whole or not at all."""
        state = {"network": asdict(self.config), "image": asdict(self.image), "kind": _KIND}
        save_state(path, {**state, "weights": self.network.state_dict()})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Segmenter:
        """Reads what `save` wrote.

        Raises:
            InputError: If the file is missing, damaged, or not a segmenter's.
        """
        path = Path(path)
        state = load_state(path)
        if state.get("kind") != _KIND:
            raise InputError(f"{path}: not a lung segmenter: give best.pt of a folder of `segment train`")
        settings = state["network"]
        config = SegmenterConfig(**{**settings, "channels": tuple(settings["channels"])})
        network = load_network(build_segmenter(config), state["weights"], path, device)
        return cls(network, config, ImageConfig(**state["image"]), file_digest(path))

    def to(self, device: torch.device) -> Segmenter:
        """The same segmenter, its network moved to `device`."""
        return replace(self, network=self.network.to(device))

    @torch.no_grad()
    def views(self, images: Tensor) -> Tensor:
        """Probability maps of the image as it is, mirrored, and shifted both ways, all laid back over each other.

        Args:
            images: (B, 1, size, size) in [0, 1].

        Returns:
            (B, views, size, size) float32 in [0, 1], on the CPU.
        """
        device = next(self.network.parameters()).device
        step = images.shape[-1] // SHIFT
        maps = []
        for there, back in _views(step):
            logits = self.network(there(images.to(device)))
            maps.append(back(logits.float().sigmoid())[:, 0].cpu())
        return torch.stack(maps, dim=1)


Move = Callable[[Tensor], Tensor]


def _views(step: int) -> list[tuple[Move, Move]]:
    def shift(by: int) -> Move:
        return lambda images: images.roll((by, by), dims=(-2, -1))

    def mirror(images: Tensor) -> Tensor:
        return images.flip(-1)

    return [(shift(0), shift(0)), (mirror, mirror), (shift(step), shift(-step)), (shift(-step), shift(step))]
