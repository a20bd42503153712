"""What the commands of the segmenter are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxr_isnet.data import AugmentConfig, ImageConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.settings import OptimizerConfig, Precision
from cxr_isnet.errors import InputError
from cxr_isnet.networks.lung_unet import SegmenterConfig
from cxr_isnet.segmentation.quality import QualityLimits
from cxr_isnet.tracking import TrackingConfig

WIDE = AugmentConfig(
    rotate_degrees=15.0,
    translate=0.08,
    scale=0.25,
    flip=True,
    gamma=(0.5, 2.0),
    contrast=0.3,
    brightness=0.1,
    noise=0.02,
)
"""Random changes wide enough for another hospital's exposure and field; mirrored, as lungs have no side."""


@dataclass(frozen=True)
class SegmentTrainConfig:
    """Training a lung segmenter.

    Attributes:
        training: Manifests (tables or recipes); their rows with a given mask are the training and validation pairs.
        output: Folder for checkpoints, tables and pictures; must be empty unless `resume`.
        external: Manifests of sites to judge the segmenter on, which training must not see.
        image: What the network gets to see.
        augment: Random changes in training.
        network: The U-Net.
        optimizer: Optimiser and schedule.
        epochs: Most epochs.
        patience: Ends after so many epochs without a lower validation loss; null for never.
        batch_size: Images per step, over all processes.
        validation_fraction: Share of patients held out where the manifests do not say who belongs to which split.
        workers: Loading processes; 0 loads in the training process, which is fast with cached images.
        cache: Keeps the prepared images in memory.
        seed: Of everything random.
        precision: Arithmetic of the network.
        device: Where.
        resume: Goes on with the unfinished training in `output`.
        resamples: Bootstrap resamples of each interval.
        limits: What quality control trusts.
        tracking: MLflow.
    """

    training: list[str]
    output: str
    external: list[str] = field(default_factory=list)
    image: ImageConfig = field(default_factory=lambda: ImageConfig(size=128))
    augment: AugmentConfig = WIDE
    network: SegmenterConfig = field(default_factory=SegmenterConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=3e-3))
    epochs: int = 40
    patience: int | None = None
    batch_size: int = 8
    validation_fraction: float = 0.15
    workers: int = 0
    cache: bool = True
    seed: int = 0
    precision: Precision = Precision.FP32
    device: Device = Device.AUTO
    resume: bool = False
    resamples: int = 2000
    limits: QualityLimits = field(default_factory=QualityLimits)
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig(experiment="lung-masks"))

    def __post_init__(self) -> None:
        if not self.training:
            raise InputError("training is an empty list: name at least one table or recipe")
        for name in ("epochs", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience is {self.patience}; it must be at least 1, or null for never")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction is {self.validation_fraction}; it must lie between 0 and 1")
        if self.seed < 0 or self.workers < 0:
            raise InputError(f"seed is {self.seed} and workers {self.workers}; both must be 0 or more")
        if self.image.size % self.network.stride:
            raise InputError(
                f"image.size is {self.image.size}; a network of {len(self.network.channels)} levels needs a multiple "
                f"of {self.network.stride}"
            )
        shared = sorted(set(self.training) & set(self.external))
        if shared:
            raise InputError(f"{shared} stand in both training and external: an external site must be unseen")


@dataclass(frozen=True)
class SegmentCrossvalidateConfig:
    """Training a lung segmenter once per fold of the patients, and judging each on the patients it has not seen.

    Attributes:
        train: The training of each fold; its output gets a folder per fold. No external manifests.
        folds: How many.
    """

    train: SegmentTrainConfig
    folds: int = 3

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise InputError(f"folds is {self.folds}; give at least 2")
        if self.train.external:
            raise InputError("train.external is not judged in a cross-validation: leave it out, or use `segment train`")


@dataclass(frozen=True)
class SegmentEvaluateConfig:
    """Judging a trained segmenter on given masks.

    Attributes:
        model: `best.pt` of a folder of `segment train`.
        manifest: Manifests, tables or recipes; their rows with a given mask are judged.
        output: Folder for the results; must be empty.
        device: Where.
        resamples: Bootstrap resamples of each interval.
        seed: Of the bootstrap.
        limits: What quality control trusts.
        tracking: MLflow.
    """

    model: str
    manifest: list[str]
    output: str
    device: Device = Device.AUTO
    resamples: int = 2000
    seed: int = 0
    limits: QualityLimits = field(default_factory=QualityLimits)
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig(experiment="lung-masks"))

    def __post_init__(self) -> None:
        if not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or recipe")
        if self.resamples < 1 or self.seed < 0:
            raise InputError(f"resamples is {self.resamples} and seed {self.seed}: at least 1 and 0 are needed")


@dataclass(frozen=True)
class SegmentPredictConfig:
    """Filling the mask column of a manifest.

    Attributes:
        model: `best.pt` of a folder of `segment train`.
        manifest: Manifests, tables or recipes.
        output: Folder for `manifest.csv`, `quality.csv`, `flagged.csv`, `masks/`, `overlays/` and `accepted.png`. A run
            that was interrupted goes on in it.
        overwrite: Predicts also where a mask is given.
        device: Where.
        batch_size: Images at a time.
        workers: Reading processes; 0 reads in the predicting process.
        limits: What quality control trusts.
    """

    model: str
    manifest: list[str]
    output: str
    overwrite: bool = False
    device: Device = Device.AUTO
    batch_size: int = 16
    workers: int = 0
    limits: QualityLimits = field(default_factory=QualityLimits)

    def __post_init__(self) -> None:
        if not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or recipe")
        if self.batch_size < 1 or self.workers < 0:
            raise InputError(f"batch_size is {self.batch_size} and workers {self.workers}: at least 1 and 0 are needed")
