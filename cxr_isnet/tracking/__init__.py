"""MLflow tracking: runs with their configuration, data sets, environment, metrics, artifacts; models and registry."""

from cxr_isnet.tracking.environment import environment
from cxr_isnet.tracking.model import (
    LoggedModel,
    check_registered_name,
    load_model,
    log_model,
    logged_checkpoint,
    model_files,
    pinned,
)
from cxr_isnet.tracking.registry import (
    CANDIDATE,
    CHAMPION,
    METHOD,
    add_version,
    check_method,
    registry_lock,
    version_with_alias,
)
from cxr_isnet.tracking.run import MlflowRun, NullRun, Run, TrackingConfig, check_store, nested_in, start_run
from cxr_isnet.tracking.store import is_new, open_store, reached, resolve_uri

__all__ = [
    "CANDIDATE",
    "CHAMPION",
    "METHOD",
    "LoggedModel",
    "MlflowRun",
    "NullRun",
    "Run",
    "TrackingConfig",
    "add_version",
    "check_method",
    "check_registered_name",
    "check_store",
    "environment",
    "is_new",
    "load_model",
    "log_model",
    "logged_checkpoint",
    "model_files",
    "nested_in",
    "open_store",
    "pinned",
    "reached",
    "registry_lock",
    "resolve_uri",
    "start_run",
    "version_with_alias",
]
