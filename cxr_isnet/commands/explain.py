"""`cxr-isnet explain`: heatmaps of single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_isnet.commands.predict import named_files
from cxr_isnet.engine import Device
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import image_uri, write_page
from cxr_isnet.files import atomic_write, new_folder, output_folder, write_csv
from cxr_isnet.imaging import is_dicom
from cxr_isnet.inference import (
    AGAINST,
    FOR,
    Classifier,
    HeatmapCase,
    files_frame,
    heatmap_cases,
    heatmap_gallery,
    overlay,
    shared_scale,
)
from cxr_isnet.objectives import Explanation

PAGE, TABLE = "index.html", "images.csv"
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Files that are called by their names; the name of a DICOM file, broken ones included, may be a patient's."""
_SIDE = 512


@dataclass(frozen=True)
class ExplainConfig:
    """Heatmaps of single images: pictures, numbers and a page on which opacity and class are chosen.

    The files are numbered in the order of the images. A picture's own name is told, that of a DICOM file is not.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder.
        images: X-rays (PNG, JPEG or DICOM), folders of them, or patterns such as '/archive/**/*.dcm'.
        output: Folder for index.html, images.csv, and a PNG and an NPZ per image; must be empty.
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
        if not self.images:
            raise InputError("images is an empty list: give one or more files")


@dataclass(frozen=True)
class _Explained:
    """An image of the command line.

    Attributes:
        number: Its place, from 1.
        name: Of the file; "" for DICOM.
        case: Its maps; None where it could not be explained.
        error: Why not.
    """

    number: int
    name: str
    case: HeatmapCase | None = None
    error: str = ""

    @property
    def stem(self) -> str:
        return f"{self.number:04d}"

    @property
    def failure(self) -> str:
        return f"image {self.number}{f' ({self.name})' if self.name else ''}: {self.error}"


def explain(config: ExplainConfig) -> str:
    """Draws the maps of every class for each image that can be read; returns what was written, and what failed.

    Raises:
        InputError: The model cannot be explained, or no image is named or can be read.
    """
    output = output_folder(config.output)
    files = named_files("images", config.images)
    classifier = Classifier.load(config.model, config.device.found(), trust=config.trust)
    explainer = classifier.explainer(config.explainer)
    if explainer.explain is None:
        raise InputError(f"{config.model}: no heatmaps: {explainer.reason}. Try --explainer input_gradient")
    found = [_explained(classifier, config.explainer, n, path) for n, path in enumerate(files, start=1)]
    failures = [image.failure for image in found if image.case is None]
    if len(failures) == len(found):
        raise InputError("no image can be explained: " + "; ".join(failures))
    scale = shared_scale(image.case.maps for image in found if image.case is not None)
    kind = config.explainer.value if config.explainer else f"the way of method {classifier.method}"
    with new_folder(config.output) as folder:
        for image in found:
            if image.case is not None:
                _write_case(folder / image.stem, image.case, classifier.classes, scale)
        _write_table(folder / TABLE, found, classifier)
        _write_explanations(folder / PAGE, found, classifier, scale, config.model, kind)
    return "\n".join([str(output / PAGE), *(f"not explained: {failure}" for failure in failures)])


def _explained(classifier: Classifier, explanation: Explanation | None, number: int, path: str) -> _Explained:
    is_picture = Path(path).suffix.lower() in PICTURES and not is_dicom(Path(path))
    name = Path(path).name if is_picture else ""
    try:
        classifier.load_image(path)
        (case,) = heatmap_cases(classifier, files_frame([path]), explanation=explanation)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ").replace(path, f"image {number}")
        return _Explained(number, name, error=reason)
    return _Explained(number, name, case)


def _write_case(stem: Path, case: HeatmapCase, classes: Sequence[str], scale: float) -> None:
    unnamed = replace(case, path="")
    with atomic_write(stem.with_suffix(".png")) as partial:
        figure = heatmap_gallery([unnamed], classes, title=f"image {int(stem.name)}", scale=scale)
        figure.savefig(partial, format="png")
    with atomic_write(stem.with_suffix(".npz")) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream, image=case.image, maps=case.maps, classes=np.array(classes), probabilities=case.probabilities,
            scale=scale,
        )  # fmt: skip


def _decision(classifier: Classifier, case: HeatmapCase) -> str:
    return classifier.classes[int(classifier.decide(np.asarray([case.probabilities], dtype=np.float64))[0])]


def _write_table(path: Path, found: Sequence[_Explained], classifier: Classifier) -> None:
    probabilities = [f"probability_{name}" for name in classifier.classes]
    rows: list[list[object]] = []
    for image in found:
        case = image.case
        numbers: list[object] = [""] * (2 + len(probabilities))
        if case is not None:
            numbers = [case.predicted, _decision(classifier, case), *case.probabilities]
        rows.append([image.stem, image.name, *numbers, image.error])
    write_csv(path, ["number", "name", "predicted", "decision", *probabilities, "error"], rows)


def _write_explanations(
    path: Path, found: Sequence[_Explained], classifier: Classifier, scale: float, model: str, explainer: str
) -> None:
    classes = classifier.classes
    images = [
        {
            "number": image.number,
            "name": image.name,
            "predicted": image.case.predicted,
            "decision": _decision(classifier, image.case) if classifier.threshold is not None else "",
            "predicted_index": list(classes).index(image.case.predicted),
            "probabilities": list(zip(classes, image.case.probabilities, strict=True)),
            "source": image_uri(_enlarged(Image.fromarray(np.rint(image.case.image * 255).astype(np.uint8)))),
            "layers": [image_uri(_enlarged(Image.fromarray(overlay(m, scale)))) for m in image.case.maps],
        }
        for image in found
        if image.case is not None
    ]
    write_page(
        path,
        "explanation_report.html",
        images=images,
        failures=[image.failure for image in found if image.case is None],
        classes=list(classes),
        scale=f"{scale:.3g}",
        model=model,
        explainer=explainer,
        rule=classifier.decision.rule.origin if classifier.threshold is not None else "",
        against=f"rgb{AGAINST}",
        for_=f"rgb{FOR}",
    )


def _enlarged(picture: Image.Image) -> Image.Image:
    """At least about 512 pixels, each pixel a square: nothing is smoothed that was not computed."""
    factor = max(1, round(_SIDE / picture.width))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
