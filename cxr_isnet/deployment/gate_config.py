"""What a gate asks of a model before it becomes the champion."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cxr_isnet.config import parse_settings, read_yaml, spell_by_value
from cxr_isnet.errors import InputError


class GateMetric(StrEnum):
    """What a model is judged by."""

    WITHIN_SITE_AUC = "within_site_auc"
    """Mean AUC inside each hospital: telling hospitals apart earns nothing."""
    MACRO_F1 = "macro_f1"
    """At the threshold that is frozen on in-domain validation."""


spell_by_value(GateMetric)


@dataclass(frozen=True)
class GateConfig:
    """What a model must show on external hospitals. A rule that is null is not asked; evidence that is missing fails.

    Attributes:
        metric: What is compared.
        floor: The lower end of its 95% interval must be above.
        margin: The lower end of the difference to the champion, on the same patients, must be above minus this.
        sites: External hospitals that must be among the evidence.
        min_patients: Fewest labelled external patients, and fewest that candidate and champion share.
        better_than_thumbnail: The lower end of the AUC within hospitals, less that of the thumbnail control on the same
            patients, must be above 0.
        relevance_excess: The lower end of the share of relevance in the lungs, less that of the same maps
            elsewhere in the image, must be above.
        audit: The audit of this very model must say that it found no shortcut among those examined.
        calibration: The expected calibration error of every class, with the shipped temperature, must not be above.
        unseen_data: No external table, and no external patient, may be one of training or validation.
        resamples: Bootstrap resamples of each interval.
        seed: Of the bootstrap.
    """

    metric: GateMetric = GateMetric.WITHIN_SITE_AUC
    floor: float | None = 0.7
    margin: float | None = 0.02
    sites: list[str] = field(default_factory=list)
    min_patients: int = 50
    better_than_thumbnail: bool = True
    relevance_excess: float | None = 0.1
    audit: bool = True
    calibration: float | None = 0.15
    unseen_data: bool = True
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 2 or self.min_patients < 2 or self.seed < 0:
            raise InputError(
                f"gate: resamples is {self.resamples}, min_patients {self.min_patients} and seed {self.seed}: at least "
                "2, 2 and 0 are needed"
            )
        if self.margin is not None and self.margin < 0:
            raise InputError(f"gate: margin is {self.margin}: it must be 0 or more")


def read_gate(path: str | Path) -> GateConfig:
    """A gate from a YAML file; raises `InputError` naming the file and its fault."""
    settings = read_yaml(Path(path), "a gate") or {}
    try:
        return parse_settings(settings, GateConfig, "gate")
    except ValueError as error:
        raise InputError(f"{path}: not a gate: {error}. Its rules: {', '.join(GateConfig.__annotations__)}") from error
