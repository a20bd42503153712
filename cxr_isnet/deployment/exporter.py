"""What an exporter is: a trained classifier written in a format that other programs run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cxr_isnet.inference import Classifier

LARGEST_BATCH = 4096


@dataclass(frozen=True)
class Exporter:
    """One format.

    Attributes:
        name: As given on the command line.
        about: What the format is, in a line.
        write: (classifier, folder that exists and is empty) -> the files written.
    """

    name: str
    about: str
    write: Callable[[Classifier, Path], tuple[Path, ...]]


class _Probabilities(nn.Module):
    """Prepared images (B, 1, size, size) to class probabilities (B, classes), without a temperature."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        probabilities: Tensor = self.network(images).float().softmax(1)
        return probabilities


def capture(classifier: Classifier) -> ExportedProgram:
    """The classifier as a graph, images (B, 1, size, size) to probabilities (B, classes), at any batch size.

    Of the program that captured it nothing remains: torch notes the source files of every node,
    which are paths of the training machine.
    """
    size = classifier.image.size
    example = torch.rand(2, 1, size, size, device=classifier.device)  # of one image, torch would fix the batch at 1
    batch = {"images": {0: Dim("batch", min=1, max=LARGEST_BATCH)}}
    program = torch.export.export(_Probabilities(classifier.network).eval(), (example,), dynamic_shapes=batch)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def description(classifier: Classifier) -> dict[str, object]:
    """What a program must know to use the graph: classes, how images are prepared, the temperature for calibrated
    probabilities."""
    size = classifier.image.size
    return {
        "classes": list(classifier.classes),
        "image": asdict(classifier.image),
        "input": {"name": "images", "shape": ["batch", 1, size, size], "dtype": "float32", "range": [0, 1]},
        "method": classifier.method,
        "temperature": classifier.temperature,
    }
