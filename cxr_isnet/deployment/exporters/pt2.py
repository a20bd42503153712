"""torch.export: a graph of ATen operations that torch runs without this package."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from cxr_isnet.deployment.exporter import Exporter
from cxr_isnet.files import atomic_write, write_json
from cxr_isnet.inference import Classifier

LARGEST_BATCH = 4096


class _Probabilities(nn.Module):
    """Prepared images (B, 1, size, size) to class probabilities (B, classes), without a temperature."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        probabilities: Tensor = self.network(images).float().softmax(1)
        return probabilities


def _write(classifier: Classifier, folder: Path) -> tuple[Path, ...]:
    """`model.pt2`, and `model.json`: classes, how images are prepared, the temperature for calibrated probabilities."""
    size = classifier.image.size
    example = torch.rand(2, 1, size, size, device=classifier.device)  # of one image, torch would fix the batch at 1
    batch = {"images": {0: Dim("batch", min=1, max=LARGEST_BATCH)}}
    program = torch.export.export(_Probabilities(classifier.network).eval(), (example,), dynamic_shapes=batch)
    with atomic_write(folder / "model.pt2") as partial:
        torch.export.save(program, partial)
    about = {
        "classes": list(classifier.classes),
        "image": asdict(classifier.image),
        "input": {"name": "images", "shape": ["batch", 1, size, size], "dtype": "float32", "range": [0, 1]},
        "method": classifier.method,
        "temperature": classifier.temperature,
    }
    write_json(folder / "model.json", about)
    return folder / "model.pt2", folder / "model.json"


EXPORTER = Exporter("pt2", "torch.export program: prepared images to probabilities, at any batch size", _write)
