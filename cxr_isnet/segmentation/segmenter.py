"""A trained lung segmenter, saved and loaded, and its probability maps under test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr_isnet.data import ImageConfig
from cxr_isnet.engine import load_network, load_state, save_state
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import file_digest
from cxr_isnet.networks import SegmenterConfig, build_segmenter

SHIFT = 16
"""A shifted copy is moved by 1 / SHIFT of the side, rows and columns alike; what leaves on one side enters opposite."""

_KIND = "lung_segmenter"


@dataclass
class Segmenter:
    """A trained lung segmenter.

    Attributes:
        network: Images (B, 1, size, size) float32 in [0, 1] to logits of the same shape, in evaluation mode.
        config: Architecture of the network.
        image: Preparation of an image file, the same as in training.
        digest: SHA-256 of the file it was loaded from; "" before it is in a file.
    """

    network: nn.Module
    config: SegmenterConfig
    image: ImageConfig
    digest: str = ""

    def save(self, path: Path) -> None:
        """Writes the segmenter to one file, atomically."""
        state = {"network": asdict(self.config), "image": asdict(self.image), "kind": _KIND}
        save_state(path, {**state, "weights": self.network.state_dict()})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Segmenter:
        """Loads what `save` wrote.

        Args:
            path: File, as `best.pt` of an output folder of `segment train`.
            device: Where the network is put.

        Raises:
            InputError: The file is missing, damaged, or not a segmenter's.
        """
        path = Path(path)
        state = load_state(path)
        if state.get("kind") != _KIND:
            raise InputError(f"{path}: not a lung segmenter: give best.pt of an output folder of `segment train`")
        settings = state["network"]
        config = SegmenterConfig(**{**settings, "channels": tuple(settings["channels"])})
        network = load_network(build_segmenter(config), state["weights"], path, device)
        return cls(network, config, ImageConfig(**state["image"]), file_digest(path))

    def to(self, device: torch.device) -> Segmenter:
        """The same segmenter, its network moved to `device`."""
        return replace(self, network=self.network.to(device))

    @torch.no_grad()
    def augmented_probabilities(self, images: Tensor) -> Tensor:
        """Test-time augmentation: maps of the image as it is, mirrored, and shifted both ways, all moved back.

        Args:
            images: (B, 1, size, size) in [0, 1].

        Returns:
            (B, copies, size, size) float32 in [0, 1], on the CPU; the first is of the unchanged image.
        """
        device = next(self.network.parameters()).device
        step = images.shape[-1] // SHIFT
        maps = []
        for move, move_back in _augmentations(step):
            logits = self.network(move(images.to(device)))
            maps.append(move_back(logits.float().sigmoid())[:, 0].cpu())
        return torch.stack(maps, dim=1)


_Move = Callable[[Tensor], Tensor]


def _augmentations(step: int) -> list[tuple[_Move, _Move]]:
    """Pairs of a change of the image and what undoes it on its map."""

    def shift(by: int) -> _Move:
        return lambda images: images.roll((by, by), dims=(-2, -1))

    def mirror(images: Tensor) -> Tensor:
        return images.flip(-1)

    return [(shift(0), shift(0)), (mirror, mirror), (shift(step), shift(-step)), (shift(-step), shift(step))]
