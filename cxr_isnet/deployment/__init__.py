"""What leaves the project: the classifier and the model that MLflow stores."""

from pathlib import Path

from cxr_isnet.deployment.classifier import Classifier

__all__ = ["Classifier", "pyfunc_path"]


def pyfunc_path() -> Path:
    """The file that MLflow stores as the model's code."""
    return Path(__file__).with_name("pyfunc_model.py")
