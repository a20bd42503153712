"""A trained lung segmenter, saved and loaded, and its probability maps under test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr_isnet.config import as_plain
from cxr_isnet.data import ImageConfig
from cxr_isnet.engine import damaged, load_network, load_state, save_state
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import file_digest
from cxr_isnet.networks import Heart, SegmenterConfig, build_segmenter
from cxr_isnet.segmentation.third_party import find_third_party

SHIFT = 16
"""A shifted copy is moved by 1 / SHIFT of the side, rows and columns alike; what leaves on one side enters opposite."""

_KIND = "lung_segmenter"


@dataclass
class Segmenter:
    """A trained lung segmenter.

    Attributes:
        network: Images (B, 1, size, size) float32 in [0, 1] to logits (B, outputs, size, size), in evaluation mode.
        config: Architecture of the network.
        image: Preparation of an image file, the same as in training.
        digest: SHA-256 of the file it was loaded from, or name and version of a third-party one; "" before it is
            in a file.
        heart: Which of the network's outputs is used; None for the first.
    """

    network: nn.Module
    config: SegmenterConfig
    image: ImageConfig
    digest: str = ""
    heart: Heart | None = None

    def save(self, path: Path) -> None:
        """Writes the segmenter to one file, atomically."""
        state = {"network": as_plain(self.config), "image": asdict(self.image), "kind": _KIND}
        save_state(path, {**state, "weights": self.network.state_dict()})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Segmenter:
        """Loads what `save` wrote, or a segmenter of another package.

        Args:
            path: File, as `best.pt` of an output folder of `segment train`; or the name of one of `THIRD_PARTY`.
            device: Where the network is put.

        Raises:
            InputError: The file is missing, damaged, or not a segmenter's; the package is missing.
        """
        third_party = find_third_party(str(path))
        if third_party is not None:
            network, installed = third_party.load()
            image = ImageConfig(third_party.size, equalize=False)
            return cls(network.to(device), SegmenterConfig(), image, f"{third_party.name} {installed}")
        path = Path(path)
        state = load_state(path)
        if state.get("kind") != _KIND:
            raise InputError(f"{path}: not a lung segmenter: give best.pt of an output folder of `segment train`")
        with damaged(path):
            settings = state["network"]
            hearts = tuple(Heart(heart) for heart in settings.get("hearts", ()))
            config = SegmenterConfig(**{**settings, "channels": tuple(settings["channels"]), "hearts": hearts})
            network = load_network(build_segmenter(config), state["weights"], path, device)
            return cls(network, config, ImageConfig(**state["image"]), file_digest(path))

    def with_heart(self, heart: Heart | None) -> Segmenter:
        """The same segmenter, whose lungs leave the heart out or include it; None leaves it as it is.

        Raises:
            InputError: The network was not trained on such masks.
        """
        if heart is None:
            return self
        if heart not in self.config.hearts:
            kinds = ", ".join(self.config.hearts) or "masks of one kind, which `heart_included` did not state"
            raise InputError(f"heart is {heart}, but the segmenter was trained on: {kinds}. Leave heart out")
        return replace(self, heart=heart)

    @property
    def mask_source(self) -> str:
        """Which segmenter made a mask, and of which kind: the digest, then the heart where it was chosen."""
        return self.digest if self.heart is None else f"{self.digest}, heart {self.heart.replace('_', ' ')}"

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
        output = 0 if self.heart is None else self.config.hearts.index(self.heart)
        step = images.shape[-1] // SHIFT
        maps = []
        for move, move_back in _augmentations(step):
            logits = self.network(move(images.to(device)))
            maps.append(move_back(logits.float().sigmoid())[:, output].cpu())
        return torch.stack(maps, dim=1)


_Move = Callable[[Tensor], Tensor]


def _augmentations(step: int) -> list[tuple[_Move, _Move]]:
    """Pairs of a change of the image and what undoes it on its map."""

    def shift(by: int) -> _Move:
        return lambda images: images.roll((by, by), dims=(-2, -1))

    def mirror(images: Tensor) -> Tensor:
        return images.flip(-1)

    return [(shift(0), shift(0)), (mirror, mirror), (shift(step), shift(-step)), (shift(-step), shift(step))]
