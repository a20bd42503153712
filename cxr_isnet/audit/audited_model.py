"""The model under audit as a set of functions of images, from a trained classifier or a third-party MLflow model."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from torch import Tensor, nn

from cxr_isnet.data import equalize
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import PROBABILITY_PREFIX, SUM_TOLERANCE, FloatArray
from cxr_isnet.imaging import encode_png
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import penultimate
from cxr_isnet.tracking import load_model

ImageFunction = Callable[[Tensor], FloatArray]
"""Images (B, 1, H, W) float32 in [0, 1], grey values as read, to an array (B, ...)."""

RandomisedHeatmaps = Callable[[float, int], ImageFunction]
"""Share of the layers, from the output back, that are re-initialised, and a seed, to the heatmaps of that network."""


@dataclass(frozen=True)
class AuditedModel:
    """Model under audit. Functions that it lacks are None, and the probes that need them are not applicable.

    Attributes:
        name: for the report.
        classes: names of the classes, in the order of the outputs.
        probabilities: images to (B, classes).
        features: images to (B, F), the input of the last layer.
        heatmaps: images to (B, classes, H, W), the signed relevance of every pixel for every class.
        randomised: heatmaps of the same network with re-initialised weights.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: ImageFunction
    features: ImageFunction | None = None
    heatmaps: ImageFunction | None = None
    randomised: RandomisedHeatmaps | None = None


def audited_classifier(classifier: Classifier, name: str) -> AuditedModel:
    """Audited model of a classifier of this package, with every function that its network allows.

    Args:
        classifier: the trained model.
        name: for the report.
    """

    def prepared(images: Tensor) -> Tensor:
        if not classifier.image.equalize:
            return images.to(classifier.device)
        return torch.stack([equalize(i) for i in images]).to(classifier.device)

    def explained(network: nn.Module) -> ImageFunction | None:
        explain = classifier.explainer(network=network).explain
        return None if explain is None else lambda images: _as_array(explain(prepared(images))[1])

    def randomised(share: float, seed: int) -> ImageFunction:
        heatmaps = explained(randomised_network(classifier, share, seed))
        assert heatmaps is not None  # the same kind of network as the one that is explained
        return heatmaps

    heatmaps = explained(classifier.network)
    has_features = any(isinstance(module, nn.Linear) for module in classifier.network.modules())
    return AuditedModel(
        name=name,
        classes=classifier.classes,
        probabilities=lambda images: _as_array(classifier.probabilities(prepared(images))),
        features=(lambda images: _as_array(penultimate(classifier.network, prepared(images))))
        if has_features
        else None,
        heatmaps=heatmaps,
        randomised=None if heatmaps is None else randomised,
    )


def randomised_network(classifier: Classifier, share: float, seed: int) -> nn.Module:
    """Copy of a network whose layers are re-initialised, from the output back.

    Args:
        classifier: it is left as it is.
        share: of the layers with weights; 1 re-initialises all.
        seed: of the weights.

    Source:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018 (arXiv 1810.03292): cascading randomisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = classifier.new_network()
    mixed = copy.deepcopy(classifier.network)
    names = [name for name, module in mixed.named_modules() if next(module.parameters(False), None) is not None]
    for name in names[len(names) - max(1, round(share * len(names))) :]:
        mixed.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
    return mixed.eval()


def audited_pyfunc(model: PyFuncModel, name: str, size: int) -> AuditedModel:
    """Audited model of a third-party MLflow model, from paths of images to a column `probability_<class>` per class.

    Args:
        model: as MLflow loads it.
        name: for the report.
        size: rows and columns, in pixels, of the files that it is given.

    Raises:
        InputError: the output has no such columns.
    """

    def predict(images: Tensor) -> pd.DataFrame:
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number, image in enumerate(images[:, 0].numpy()):
                path = Path(folder) / f"{number}.png"
                grey = np.rint(image.clip(0, 1) * 65535).astype(np.uint16)
                path.write_bytes(b"".join(encode_png(grey.shape, [grey])))
                paths.append(str(path))
            return pd.DataFrame(model.predict(paths))

    trial = predict(torch.linspace(0, 1, size).expand(1, 1, size, size))
    columns = [str(column) for column in trial.columns if str(column).startswith(PROBABILITY_PREFIX)]
    if len(columns) < 2:
        raise InputError(
            f"{name}: the model returns columns {[str(c) for c in trial.columns]}. An audit needs one "
            f"'{PROBABILITY_PREFIX}<class>' for each of two or more classes"
        )

    def probabilities(images: Tensor) -> FloatArray:
        found = np.asarray(predict(images)[columns], dtype=np.float64)
        if found.shape != (len(images), len(columns)) or not np.all(np.abs(found.sum(1) - 1) < SUM_TOLERANCE):
            raise InputError(
                f"{name}: for {len(images)} images the columns {', '.join(columns)} hold {found.shape[0]} rows, sums "
                f"from {found.sum(1).min():.3f} to {found.sum(1).max():.3f}. Probabilities of an image must sum to 1"
            )
        return found

    return AuditedModel(name, tuple(c.removeprefix(PROBABILITY_PREFIX) for c in columns), probabilities)


def load_audited_model(
    model: str, *, size: int, tracking_uri: str, device: str | torch.device = "cpu"
) -> tuple[AuditedModel, int]:
    """Load the model of a checkpoint or of an MLflow URI.

    Args:
        model: `best.pt` of a training's folder; or `models:/NAME/1`, `runs:/...`, or a folder with an `MLmodel`.
        size: rows and columns, in pixels, of the files that an MLflow model is given; a checkpoint knows its own.
        tracking_uri: of the MLflow store.
        device: where a checkpoint is run; an MLflow model chooses for itself.

    Returns:
        The model, and the size of its images.

    Raises:
        InputError: there is no such model, or it does not return probabilities.
    """
    if ":/" not in model and not Path(model).is_dir():
        classifier = Classifier.load(model, device)
        return audited_classifier(classifier, model), classifier.image.size
    try:
        loaded = load_model(model, tracking_uri)
    except (MlflowException, OSError) as error:
        raise InputError(f"{model}: MLflow cannot load it from {tracking_uri} ({error}). Correct the URI") from error
    return audited_pyfunc(loaded, model, size), size


def _as_array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().cpu().double().numpy())
