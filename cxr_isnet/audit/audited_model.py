"""The model under audit as a set of functions of images, from a trained classifier or a third-party MLflow model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cxr_isnet.audit.third_party import AdapterConfig, adapt
from cxr_isnet.data import equalize
from cxr_isnet.deployment import logged_weights
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import FloatArray
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import penultimate
from cxr_isnet.tracking import load_model, model_files

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
        method: by which it was trained; "" of a third-party model.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: ImageFunction
    features: ImageFunction | None = None
    heatmaps: ImageFunction | None = None
    randomised: RandomisedHeatmaps | None = None
    method: str = ""


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
        method=classifier.method,
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


def load_audited_model(
    model: str,
    *,
    size: int,
    tracking_uri: str,
    device: str | torch.device = "cpu",
    trust: bool = False,
    adapter: AdapterConfig | None = None,
) -> tuple[AuditedModel, int]:
    """Load the model of a checkpoint or of an MLflow URI.

    Of a model that this package has logged the weights alone are read. Any other is code, which is run only if trusted.

    Args:
        model: `best.pt` of a training's folder; or `models:/NAME/1`, `runs:/...`, or a folder with an `MLmodel`.
        size: rows and columns, in pixels, of the images that a third-party model is given; a checkpoint knows its own.
        tracking_uri: of the MLflow store.
        device: where a checkpoint is run; a third-party model chooses for itself.
        trust: allows a checkpoint to name foreign code, and a third-party model to run.
        adapter: how a third-party model is asked; None by its signature.

    Returns:
        The model, and the size of its images.

    Raises:
        InputError: there is no such model, it is not trusted, or it does not return probabilities.
    """
    if Path(model).is_file():
        return _classifier(model, model, device, trust)
    with model_files(model, tracking_uri) as folder:
        weights = logged_weights(folder)
        if weights is not None:
            return _classifier(weights, model, device, trust)
    if not trust:
        raise InputError(
            f"{model}: an MLflow model that cxr-isnet has not logged: to load it runs the code that it carries. If you "
            "trust it, allow it with --trust true"
        )
    try:
        loaded = load_model(model, tracking_uri)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{model}: MLflow cannot load it from {tracking_uri} ({said[:300]})") from error
    adapted = adapt(loaded, model, size, adapter or AdapterConfig())
    return AuditedModel(model, adapted.classes, adapted.probabilities), adapted.size


def _classifier(path: str | Path, name: str, device: str | torch.device, trust: bool) -> tuple[AuditedModel, int]:
    classifier = Classifier.load(path, device, trust=trust)
    return audited_classifier(classifier, name), classifier.image.size


def _as_array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().cpu().double().numpy())
