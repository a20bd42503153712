"""`cxr-isnet export`: a trained classifier in a format that other programs run."""

from __future__ import annotations

from dataclasses import dataclass

from cxr_isnet.deployment.exporters import find_exporter
from cxr_isnet.files import new_folder, output_folder
from cxr_isnet.inference import Classifier


@dataclass(frozen=True)
class ExportConfig:
    """Export of a trained classifier.

    Attributes:
        format: `pt2` (torch.export), `onnx` (ONNX) or `bundle` (MONAI Bundle).
        model: Checkpoint `best.pt` of a training's folder.
        output: Folder for the files; must be empty.
        trust: Allows the checkpoint to name a method or network that is defined outside cxr-isnet, which is code.
    """

    format: str
    model: str
    output: str
    trust: bool = False


def export(config: ExportConfig) -> str:
    """Writes the files; returns their paths, one a line."""
    exporter = find_exporter(config.format)
    output = output_folder(config.output)
    classifier = Classifier.load(config.model, trust=config.trust)
    with new_folder(config.output) as folder:
        written = [file.relative_to(folder) for file in exporter.write(classifier, folder)]
    return "\n".join(str(output / file) for file in written)
