"""What leaves the project: the model that MLflow stores."""

from pathlib import Path


def pyfunc_path() -> Path:
    """The file that MLflow stores as the model's code."""
    return Path(__file__).with_name("pyfunc_model.py")
