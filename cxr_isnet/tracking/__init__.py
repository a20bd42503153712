"""MLflow: runs with their config, data, environment, metrics and figures; models and their registry."""

from cxr_isnet.tracking.model import LoggedModel, load_back, log_model
from cxr_isnet.tracking.run import MlflowRun, NullRun, Run, TrackingConfig, start_run

__all__ = [
    "LoggedModel",
    "MlflowRun",
    "NullRun",
    "Run",
    "TrackingConfig",
    "load_back",
    "log_model",
    "start_run",
]
