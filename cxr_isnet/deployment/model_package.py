"""The package of a registered model: weights, code and requirements, so that it loads where nothing else is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import cxr_isnet
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import TIMM
from cxr_isnet.tracking import LoggedModel, Run, log_model, logged_checkpoint, model_files, pinned

NEEDED = (
    "mlflow-skinny",
    "torch",
    "monai",
    "einops",
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
_CODE = Path(__file__).with_name("pyfunc_model.py")
PARAMS = {"calibrated": False, "heatmap": False}


def log_classifier(
    run: Run,
    classifier: Classifier,
    example_paths: Sequence[str],
    *,
    register: str | None = None,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> LoggedModel | None:
    """Logs a classifier as a whole MLflow model: its weights as safetensors, this package's code, pinned requirements.

    Args:
        run: The run that made it.
        classifier: The classifier.
        example_paths: Two or more images, to try the model with.
        register: Name in the registry; None does not register.
        description: Of the registered version.
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
            python_model=_CODE,
            classes=classifier.classes,
            example_paths=example_paths,
            content=classifier.digest(),
            description=description,
            register=register,
            metadata=metadata,
            params=PARAMS,
            code_paths=[str(code)],
            pip_requirements=pinned((*NEEDED, *(["timm"] if _of_timm(classifier) else [])), DECODERS),
        )


def _of_timm(classifier: Classifier) -> bool:
    return any(str(name).startswith(TIMM) for name in (classifier.config.name, classifier.options.get("encoder")))


def load_classifier(
    model: str, tracking_uri: str, device: str | torch.device = "cpu", *, trust: bool = False
) -> Classifier:
    """The classifier of a checkpoint, or of a model that `log_classifier` has stored.

    Of a stored model the weights alone are read, as those of a checkpoint: the code that it carries is not run.

    Args:
        model: A checkpoint; else what `model_files` takes: `models:/NAME@champion`, or a folder.
        tracking_uri: Of the store, for a model of MLflow.
        device: Where it is to compute.
        trust: As of `Classifier.load`.

    Raises:
        InputError: There is no such model, or it is none of this package.
    """
    if Path(model).is_file():
        return Classifier.load(model, device, trust=trust)
    with model_files(model, tracking_uri) as folder:
        weights = logged_weights(folder)
        if weights is None:
            raise InputError(f"model '{model}': not a model of this package: give one that its training has logged")
        return Classifier.load(weights, device, trust=trust)


def logged_weights(folder: Path) -> Path | None:
    """The weights among the files of a model that `log_classifier` has stored; None of any other model."""
    return logged_checkpoint(folder, _CODE.name)
