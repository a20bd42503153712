"""`cxr-isnet audit`."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxr_isnet.audit import (
    MIN_PATIENTS,
    AdapterConfig,
    AuditContext,
    AuditReport,
    load_audit_set,
    load_audited_model,
    load_training_images,
    run_probes,
    write_audit,
)
from cxr_isnet.config import as_plain
from cxr_isnet.data import MarkConfig
from cxr_isnet.deployment import training_of
from cxr_isnet.engine import Device
from cxr_isnet.errors import InputError
from cxr_isnet.files import new_folder, output_folder
from cxr_isnet.manifests import digest, read_manifests
from cxr_isnet.tracking import TrackingConfig, start_run


@dataclass(frozen=True)
class AuditConfig:
    """Audit of a trained model for shortcuts outside the lungs.

    Attributes:
        model: Checkpoint `best.pt` of a training's folder, or a model of MLflow (`models:/NAME/1`, a folder).
        manifest: Manifests with lung masks, tables or column mappings.
        output: Folder for audit.json and audit.html; must be empty.
        training: Manifests of the hospitals that the model was trained on, with lung masks; null takes those that the
            training's folder names, an empty list none.
        mark: Plant the marks of a training into the images first; null for the images as they are.
        size: Rows and columns, in pixels, of the images that a third-party model is given; a checkpoint knows its own.
        trust: Allows the checkpoint to name a method or network that is defined outside cxr-isnet, and an MLflow model
            to be one that cxr-isnet has not logged: both are code, which is then run.
        adapter: How such an MLflow model is asked, and its answer read.
        most_images: A larger manifest is sampled down to this, by patient, evenly over sites and classes.
        resamples: Bootstrap resamples of each interval.
        seed: Of all random choices.
        batch_size: Images at a time.
        device: Where a checkpoint is run; an MLflow model chooses for itself.
        tracking: MLflow.
    """

    model: str
    manifest: list[str]
    output: str
    training: list[str] | None = None
    mark: MarkConfig | None = None
    size: int = 512
    trust: bool = False
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    most_images: int = 300
    resamples: int = 2000
    seed: int = 0
    batch_size: int = 32
    device: Device = Device.AUTO
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not self.manifest:
            raise InputError("manifest is an empty list: name at least one table or column mapping")
        least = {"size": 32, "most_images": MIN_PATIENTS, "resamples": 2, "seed": 0, "batch_size": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise InputError(f"{name} is {getattr(self, name)}: at least {smallest} is needed")


def audit(config: AuditConfig) -> str:
    """Audit a model on the images of manifests, and write the report to files and to MLflow.

    Args:
        config: model, manifests and settings.

    Returns:
        The verdicts as a text table.

    Raises:
        InputError: the output folder is not empty; a model, manifest or image cannot be used.
    """
    output = output_folder(config.output)
    model, size = load_audited_model(
        config.model,
        size=config.size,
        tracking_uri=config.tracking.uri,
        device=config.device.found(),
        trust=config.trust,
        adapter=config.adapter,
    )
    frame = read_manifests(config.manifest, classes=model.classes)
    data = load_audit_set(
        frame, model.classes, size, mark=config.mark, most_images=config.most_images, seed=config.seed
    )
    hospitals = load_training_images(
        config.model, config.training, model.classes, size, most_images=config.most_images, seed=config.seed
    )
    context = AuditContext(model, data, config.resamples, config.seed, config.batch_size, hospitals)
    training = training_of(config.tracking, config.model)
    name = f"audit of {model.method or config.model} on {', '.join(data.site_names)} ({output.name})"
    tags = {**({"method": model.method} if model.method else {}), **training.tags}
    with start_run(config.tracking, kind="audit", name=name, parameters=as_plain(config), tags=tags) as run:
        run.log_dataset(frame, "external", "audit", digest(*config.manifest), source=", ".join(config.manifest))
        report = AuditReport(context, run_probes(context), int((frame["mask"] == "").sum()))
        with new_folder(config.output) as folder:
            written = write_audit(folder, report)
        run.log_metrics(report.metrics(), 0)
        run.set_tags({"audit.verdict": report.verdict.value})
        for file in written:
            run.log_artifact(output / file.name)
    return report.table()
