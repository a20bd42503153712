"""`cxr-isnet evaluate` and `cxr-isnet explain`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from cxr_isnet.data import MarkConfig, check_files, prepare_image
from cxr_isnet.deployment import Classifier
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.external import TestResults, judge
from cxr_isnet.evaluation.gallery import HeatmapCase, heatmap_gallery
from cxr_isnet.evaluation.prediction import planted_tests
from cxr_isnet.files import file_slug
from cxr_isnet.intake import read_image
from cxr_isnet.manifests import digest, read_manifests
from cxr_isnet.relevance import LRP
from cxr_isnet.tracking import TrackingConfig, start_run


@dataclass(frozen=True)
class EvaluateConfig:
    """Judging a trained classifier on hospitals.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder.
        manifest: Manifests of the hospitals, tables or recipes.
        output: Folder for the results; must be empty.
        mark: Tests with planted marks too; null for the images as they are.
        resamples: Bootstrap resamples of each interval.
        seed: Of the bootstrap.
        tracking: MLflow.
    """

    model: str
    manifest: list[str]
    output: str
    mark: MarkConfig | None = None
    resamples: int = 2000
    seed: int = 0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or recipe")
        if self.resamples < 1 or self.seed < 0:
            raise InputError(f"resamples is {self.resamples} and seed {self.seed}: at least 1 and 0 are needed")


@dataclass(frozen=True)
class ExplainConfig:
    """Heatmaps of single images.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder.
        images: X-rays (PNG, JPEG or DICOM).
        output: Folder for a PNG per image; made if missing.
    """

    model: str
    images: list[str]
    output: str

    def __post_init__(self) -> None:
        names = [_picture_name(path) for path in self.images]
        if not names or len(set(names)) < len(names):
            raise InputError(f"images is {self.images}: give one or more files of different names")


def evaluate(config: EvaluateConfig) -> str:
    """Judges a classifier on the manifests' sites, to files and to MLflow; returns the results as a text table."""
    classifier = Classifier.load(config.model)
    frame = read_manifests(config.manifest, classes=classifier.classes)
    output = Path(config.output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InputError(f"output '{output}' is a file or not empty: name another folder")
    check_files(frame)
    with start_run(config.tracking, parameters=asdict(config), tags={"method": classifier.method}) as run:
        run.log_dataset(
            frame,
            "external",
            "evaluation",
            "+".join(digest(m)[:16] for m in config.manifest),
            source=", ".join(config.manifest),
        )
        results = judge(
            classifier,
            frame,
            output,
            planted_tests(config.mark),
            resamples=config.resamples,
            seed=config.seed,
            model_uri=config.model,
        )
        run.log_metrics(flat_metrics(results), 0)
        for test in results:
            run.log_artifact(output / test)
    return results_table(results)


def explain(config: ExplainConfig) -> str:
    """Draws the maps of every class for each image, once all could be read; returns the pictures' paths, one a line."""
    classifier = Classifier.load(config.model)
    output = Path(config.output)
    if output.is_file():
        raise InputError(f"output '{output}' is a file: name a folder")
    images = [prepare_image(read_image(path), classifier.image) for path in config.images]
    lrp = LRP(classifier.network)
    written = []
    output.mkdir(parents=True, exist_ok=True)
    for path, image in zip(config.images, images, strict=True):
        with torch.no_grad():
            logits, relevance = lrp(image[None])
        probability = logits.softmax(1)[0]
        case = HeatmapCase(
            image=image[0].numpy(),
            mask=None,
            maps=relevance.image[0, :, 0].numpy(),
            map_names=classifier.classes,
            label="",
            predicted=classifier.classes[int(probability.argmax())],
            probability=float(probability.max()),
            path=path,
        )
        file = output / _picture_name(path)
        heatmap_gallery([case], classifier.classes).savefig(file)
        written.append(str(file))
    return "\n".join(written)


def _picture_name(path: str) -> str:
    return f"{file_slug(Path(path).name)}.heatmaps.png"


def flat_metrics(results: TestResults) -> dict[str, float]:
    """Every number of every test and site by a dotted name, as MLflow takes them."""
    return {
        f"{test}.{site}.{name}": value
        for test, sites in results.items()
        for site, result in sites.items()
        for name, value in result.metrics().items()
    }


def results_table(results: TestResults) -> str:
    """A line per test and site: n, AUC and accuracy with their intervals, share of relevance in the lungs."""
    lines = [f"{'test':<8} {'site':<32} {'n':>5}  {'AUC (95% interval)':<22} {'accuracy':<22} relevance in lungs"]
    for test, sites in results.items():
        for site, r in sites.items():
            auc, accuracy = (f"{e.value:.3f} ({e.low:.3f}-{e.high:.3f})" for e in (r.auc, r.accuracy))
            lines.append(
                f"{test:<8} {site:<32} {r.n_images:>5}  {auc:<22} {accuracy:<22} {r.relevance_in_lung.value:.3f}"
            )
    return "\n".join(lines)
