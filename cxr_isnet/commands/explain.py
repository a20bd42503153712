"""`cxr-isnet explain`: heatmaps of single images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxr_isnet.engine import Device
from cxr_isnet.errors import InputError
from cxr_isnet.files import file_slug, output_folder
from cxr_isnet.inference import Classifier, files_frame, heatmap_cases, heatmap_gallery
from cxr_isnet.objectives import Explanation


@dataclass(frozen=True)
class ExplainConfig:
    """Heatmaps of single images.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder.
        images: X-rays (PNG, JPEG or DICOM).
        output: Folder for a PNG per image; made if missing.
        explainer: `lrp`, `input_gradient`, `grad_cam` or `attention`; null takes the method's own way.
        device: Where maps are computed.
        trust: Allows the checkpoint to name a method or network that is defined outside cxr-isnet, which is code.
    """

    model: str
    images: list[str]
    output: str
    explainer: Explanation | None = None
    device: Device = Device.AUTO
    trust: bool = False

    def __post_init__(self) -> None:
        names = [_picture_name(path) for path in self.images]
        if not names or len(set(names)) < len(names):
            raise InputError(f"images is {self.images}: give one or more files of different names")


def explain(config: ExplainConfig) -> str:
    """Draws the maps of every class for each image, once all could be read; returns the pictures' paths, one a line.

    Raises:
        InputError: A file cannot be read, or the model cannot be explained.
    """
    classifier = Classifier.load(config.model, config.device.found(), trust=config.trust)
    output = output_folder(config.output, may_hold=True)
    explainer = classifier.explainer(config.explainer)
    if explainer.explain is None:
        raise InputError(f"{config.model}: no heatmaps: {explainer.reason}. Try --explainer input_gradient")
    for path in config.images:
        classifier.load_image(path)
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for path in config.images:
        cases = heatmap_cases(classifier, files_frame([path]), explanation=config.explainer)
        file = output / _picture_name(path)
        heatmap_gallery(cases, classifier.classes).savefig(file)
        written.append(str(file))
    return "\n".join(written)


def _picture_name(path: str) -> str:
    return f"{file_slug(Path(path).name)}.heatmaps.png"
