"""What is left of a training when it is used: the plain network, its classes and how images are prepared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.deployment.checkpoint import load_network, load_state, save_network
from cxr_isnet.errors import InputError
from cxr_isnet.intake import read_image
from cxr_isnet.networks import NetworkConfig, build_network


@dataclass
class Classifier:
    """A trained classifier: image files in, class probabilities out. No mask and no relevance are involved.

    Attributes:
        network: Images (B, 1, size, size) in [0, 1] to logits (B, classes), in evaluation mode.
        config: Which network it is.
        classes: Labels in the order of the outputs.
        image: How files become images, the same as in training.
        method: Name of the method it was trained with.
        temperature: What the logits are divided by for calibrated probabilities, fitted on in-domain validation; 1
            where none was fitted. Probabilities are the network's own unless calibrated ones are asked for.
    """

    network: nn.Module
    config: NetworkConfig
    classes: tuple[str, ...]
    image: ImageConfig
    method: str
    temperature: float = 1.0

    def save(self, path: Path) -> None:
        """Writes the classifier to one file, whole or not at all."""
        more = {"classes": list(self.classes), "method": self.method, "temperature": self.temperature}
        save_network(path, self.network, self.config, self.image, **more)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Classifier:
        """Reads what `save` wrote; a file of before there were temperatures has 1.

        Raises:
            InputError: If the file is missing, damaged, or not a classifier's.
        """
        path = Path(path)
        state = load_state(path)
        missing = {"network", "classes", "image", "method", "weights"} - state.keys()
        if missing:
            raise InputError(f"{path}: the state of a training, not a classifier: give best.pt of the same folder")
        config = NetworkConfig(**state["network"])
        network = load_network(build_network(config, len(state["classes"])), state["weights"], path, device)
        classes, image = tuple(state["classes"]), ImageConfig(**state["image"])
        return cls(network, config, classes, image, state["method"], state.get("temperature", 1.0))

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, calibrated: bool = False) -> Tensor:
        """Class probabilities (B, classes) float32, on the CPU, of prepared images (B, 1, size, size).

        Args:
            images: (B, 1, size, size) in [0, 1].
            calibrated: Divides the logits by the temperature; else they are the network's own.
        """
        logits = self.network(images.to(self.device)).float()
        scaled: Tensor = logits / self.temperature if calibrated else logits
        return scaled.softmax(1).cpu()

    def predict(
        self, paths: Sequence[str | os.PathLike[str]], batch_size: int = 16, *, calibrated: bool = False
    ) -> pd.DataFrame:
        """Columns `path` and `probability_<class>`, one row per file (PNG, JPEG or DICOM), in order.

        Args:
            paths: The files.
            batch_size: Files at a time.
            calibrated: As for `probabilities`.

        Raises:
            InputError: If a file cannot be read; the message names it.
        """
        rows: list[Tensor] = []
        for start in range(0, len(paths), batch_size):
            batch = [prepare_image(read_image(os.fspath(p)), self.image) for p in paths[start : start + batch_size]]
            rows.append(self.probabilities(torch.stack(batch), calibrated=calibrated))
        table = torch.cat(rows).double().numpy() if rows else torch.empty(0, len(self.classes)).numpy()
        columns: Mapping[str, Any] = {f"probability_{name}": table[:, i] for i, name in enumerate(self.classes)}
        return pd.DataFrame({"path": [os.fspath(p) for p in paths], **columns})
