"""MLflow tracking: runs with their configuration, data sets, environment, metrics, artifacts; models and registry."""

from cxr_isnet.tracking.model import LoggedModel, check_registered_name, load_model, log_model, pinned
from cxr_isnet.tracking.run import MlflowRun, NullRun, Run, TrackingConfig, nested_in, start_run

__all__ = [
    "LoggedModel",
    "MlflowRun",
    "NullRun",
    "Run",
    "TrackingConfig",
    "check_registered_name",
    "load_model",
    "log_model",
    "nested_in",
    "pinned",
    "start_run",
]
