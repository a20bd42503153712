"""What leaves the project: the model that MLflow stores, exports, DICOM results, predictions of an archive."""

from pathlib import Path

from cxr_isnet.deployment.archive_scoring import ScoringConfig, finish, local_scorer, ray_scorer, score_archive
from cxr_isnet.deployment.dicom_results import DicomResults, add_dicom_results
from cxr_isnet.deployment.listener import Listener, ListenerConfig, Node, Spool, check_ae_title

__all__ = [
    "DicomResults",
    "Listener",
    "ListenerConfig",
    "Node",
    "ScoringConfig",
    "Spool",
    "add_dicom_results",
    "check_ae_title",
    "finish",
    "local_scorer",
    "pyfunc_path",
    "ray_scorer",
    "score_archive",
]


def pyfunc_path() -> Path:
    """The file that MLflow stores as the model's code."""
    return Path(__file__).with_name("pyfunc_model.py")
