"""The package of a registered model: weights, code and requirements, so that it loads where nothing else is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cxr_isnet
from cxr_isnet.inference import Classifier
from cxr_isnet.tracking import LoggedModel, Run, log_model, pinned

NEEDED = (
    "mlflow-skinny",
    "torch",
    "monai",
    "numpy",
    "pandas",
    "pydicom",
    "pillow",
    "safetensors",
    "tqdm",
    "jsonargparse",
    "docstring-parser",
)
"""What `pyfunc_model.py` imports; a test predicts where nothing else can be imported."""
DECODERS = ("imagecodecs", "pylibjpeg", "pylibjpeg-openjpeg", "python-gdcm")
"""Of compressed DICOM; those of them that are installed."""
PARAMS = {"calibrated": False, "heatmap": False}


def log_classifier(
    run: Run,
    classifier: Classifier,
    example_paths: Sequence[str],
    *,
    register: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> LoggedModel | None:
    """Logs a classifier as a whole MLflow model: its weights as safetensors, this package's code, pinned requirements.

    Args:
        run: The run that made it.
        classifier: The classifier.
        example_paths: Two or more images, to try the model with.
        register: Name in the registry; None does not register.
        metadata: As of `log_model`.

    Returns:
        Reference to the model; None from a run that logs nothing.

    Raises:
        InputError: As `log_model`.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights, code = Path(folder) / "classifier.safetensors", Path(folder) / "cxr_isnet"
        classifier.save(weights)
        ignored = shutil.ignore_patterns("__pycache__", "_shipped")
        shutil.copytree(Path(cxr_isnet.__file__).parent, code, ignore=ignored)
        return log_model(
            run,
            weights,
            python_model=Path(__file__).with_name("pyfunc_model.py"),
            classes=classifier.classes,
            example_paths=example_paths,
            register=register,
            metadata=metadata,
            params=PARAMS,
            code_paths=[str(code)],
            pip_requirements=pinned(NEEDED, DECODERS),
        )
