"""The config of an experiment. A YAML file and the command line fill it; nothing else decides what a run does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cxr_isnet.config import as_plain, is_import_path
from cxr_isnet.data import AugmentConfig, ImageConfig, MarkConfig
from cxr_isnet.engine import Device, OptimizerConfig, Precision
from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives import BalanceConfig, MethodOptions, find_method, resolved_options
from cxr_isnet.tracking import TrackingConfig, check_registered_name, environment

HOW_READ = ("workers", "cache", "cache_folder")
"""Settings of data that decide how images are read, and not what a network learns."""


@dataclass(frozen=True)
class DataConfig:
    """Which X-rays, and what is done to them.

    Attributes:
        training: Manifests (tables or column mappings) of the hospitals to train on.
        external: Manifests of hospitals that neither training nor any choice may see.
        classes: Labels in the order of the network's outputs; with two, the second is the positive one.
        image: What the network gets to see.
        augment: Random changes in training.
        mark: Plants a class-correlated mark into the background of training and validation images, and makes the
            evaluation test with the mark (`biased`), without (`clean`) and with another class's (`swapped`); null for
            none.
        masked_only: Leaves out training images that have no lung mask; else they add classification loss only.
        least_masked: Share of the training images of every class of every hospital that must have a lung mask for a
            method that needs masks; 0 to 1.
        validation_fraction: Share of patients held out where the manifests do not say who belongs to which split.
        workers: Loading processes; 0 loads in the training process; null for none on a CPU, whose cores the network
            needs, and on a GPU for one for each core, at most 8.
        cache: Keeps images that have been read: those of training, validation and external hospitals, in memory. They
            take 4.1 bytes a pixel at the size of the network's input, up to half of the machine's memory; what does not
            fit is read each time.
        cache_folder: Keeps them in files in this folder instead, which all trainings that name it share, one after the
            other or at the same time; null for none. They are X-rays of patients, small and without names: remove the
            folder when it is of no use any more.

    Example:
        >>> DataConfig(training=["hospital_a/manifest.csv"], classes=["normal", "tuberculosis"]).validation_fraction
        0.2
    """

    training: list[str]
    classes: list[str]
    external: list[str] = field(default_factory=list)
    image: ImageConfig = field(default_factory=ImageConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mark: MarkConfig | None = None
    masked_only: bool = False
    least_masked: float = 0.5
    validation_fraction: float = 0.2
    workers: int | None = None
    cache: bool = True
    cache_folder: str | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise InputError(f"data.classes is {self.classes}; give at least two different labels")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"data.validation_fraction is {self.validation_fraction}; it must lie between 0 and 1")
        if not 0 <= self.least_masked <= 1:
            raise InputError(f"data.least_masked is {self.least_masked}; it is a share, from 0 to 1")
        if self.cache_folder is not None and not self.cache:
            raise InputError("data.cache is false, but data.cache_folder names a folder: leave one of them out")
        shared = sorted(set(self.training) & set(self.external))
        if shared:
            raise InputError(
                f"{shared} stand in both data.training and data.external: an external hospital must be unseen"
            )


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        data: X-rays.
        output: Folder for checkpoints, tables and pictures; must be empty unless `resume`.
        method: Name of a method, e.g. cross_entropy or isnet; or the import path of one, as my_method.METHOD.
        options: Settings by name of method, so that one file serves several; those of other methods are ignored.
        network: Network in place of the method's own.
        init_from: Initial weights: another training's `best.pt`, with the last layer fitted to the new classes; or its
            config (YAML) or recipe, which is then trained first, once, with this network; or a state dict (.pt, .pth,
            .safetensors) of torchvision's or TorchXRayVision's DenseNet or ResNet. Null for random weights.
        optimizer: Optimiser and schedule.
        epochs: Most epochs.
        patience: Ends after so many epochs without a lower validation loss; null for never.
        batch_size: Images per step, over all processes.
        seed: Of everything random.
        precision: Arithmetic.
        device: Where.
        resume: Resumes the unfinished training in `output`.
        resamples: Bootstrap resamples of each interval in the evaluation.
        tracking: MLflow.
        register: Name under which the model is registered; null for not.
        balance: Groups of training images that count the same, by class or by class and hospital.
        compile: Compiles the training step with torch.compile (inductor), on a GPU into CUDA graphs. It takes a C++
            compiler and a minute at the start, and draws other random numbers (dropout) than a step that is not
            compiled.

    Example:
        >>> data = DataConfig(training=["hospital_a/manifest.csv"], classes=["normal", "tuberculosis"])
        >>> config = TrainConfig(data, output="runs/second", method="isnet_selective")
        >>> config.resolved()["options"]["isnet_selective"]["epsilon"]
        0.01
    """

    data: DataConfig
    output: str
    method: str = "isnet"
    options: MethodOptions = field(default_factory=MethodOptions)
    network: NetworkConfig | None = None
    init_from: str | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = 40
    patience: int | None = None
    batch_size: int = 16
    seed: int = 0
    precision: Precision = Precision.FP32
    device: Device = Device.AUTO
    resume: bool = False
    resamples: int = 2000
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    register: str | None = None
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    compile: bool = False

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {getattr(self, name)}; it must be at least 1"
            for name in ("epochs", "batch_size", "resamples")
            if getattr(self, name) < 1
        ]
        if self.patience is not None and self.patience < 1:
            wrong.append(f"patience is {self.patience}; it must be at least 1, or null for never")
        if self.seed < 0:
            wrong.append(f"seed is {self.seed}; it must be 0 or more")
        if wrong:
            raise InputError("; ".join(wrong))
        if self.register is not None:
            check_registered_name(self.register)
            if not self.tracking.enabled:
                raise InputError(
                    f"register is {self.register!r}, but tracking.enabled is false: registering needs MLflow"
                )

    def provenance(self) -> dict[str, Any]:
        """What decides about the weights: all of `resolved` that is no path, digests of the manifests, and versions."""
        from cxr_isnet.manifests import digest  # not at the top: the settings alone are read faster without pandera

        plain = self.resolved()
        kept = {k: v for k, v in plain.items() if k not in ("output", "resume", "register", "tracking", "init_from")}
        kept["data"] = {k: v for k, v in plain["data"].items() if k not in ("training", "external", *HOW_READ)}
        kept["manifests"] = {part: [digest(m) for m in plain["data"][part]] for part in ("training", "external")}
        return {**kept, "versions": environment()}

    def resolved(self) -> dict[str, Any]:
        """Everything that decides what this run does, as plain values: the method's options with every default, the
        network that is taken."""
        method = find_method(self.method)
        plain: dict[str, Any] = as_plain(self)
        name = self.method if is_import_path(self.method) else method.name
        network = as_plain(self.network or NetworkConfig(method.network))
        return {**plain, "method": name, "options": resolved_options(self.options, method), "network": network}
