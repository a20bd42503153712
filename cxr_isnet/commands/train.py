"""`cxr-isnet train`: a classifier, trained, evaluated, logged and registered."""

from __future__ import annotations

from pathlib import Path

from cxr_isnet.training import TrainConfig

__all__ = ["TrainConfig", "run"]


def run(config: TrainConfig) -> str:
    """Trains; returns where the model and its reports are."""
    from cxr_isnet.training import train  # not at the top: the settings alone are read in half the time

    metrics = train(config)
    if not metrics:
        return ""  # a process other than the first
    output = Path(config.output)
    reports = [output / part / "clean" / "report.html" for part in ("validation", "external") if part in metrics]
    return "\n".join([f"model: {output / 'best.pt'}", *(f"report: {report}" for report in reports)])
