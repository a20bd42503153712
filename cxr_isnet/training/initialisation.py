"""Initial weights: another training's, which is run first if there is only its config, and a last layer fitted to the
new classes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader

from cxr_isnet.config import parse_settings, read_yaml
from cxr_isnet.engine import RunDirectory, load_weights
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import MAPPING_SUFFIXES, inspect_manifest
from cxr_isnet.networks import TIMM, NetworkConfig, last_layer, penultimate
from cxr_isnet.objectives import LungClassifier
from cxr_isnet.shipped import locate
from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.third_party_weights import load_third_party, read_weights, timm_weights

_log = logging.getLogger(__name__)

Config = TypeVar("Config")

_STRENGTH = 0.04
"""Of the last layer's fit: weight of the mean log loss against half the squared weights. So weak a fit stays near the
difference of the classes' means; a closer one reads a mark out of the features before the training can forbid it."""


def initial_checkpoint(source: str, train: Callable[[TrainConfig], Any], network: NetworkConfig) -> Path:
    """The checkpoint that `source` names, or that of the training whose config it names.

    A config is trained once: an unfinished training in its output directory is resumed, a finished one is used as is.

    Args:
        source: `best.pt` of a training, or a file of another library's weights; or a config (YAML), or the name of a
            recipe.
        train: What trains a config.
        network: Replaces the config's own network, in an output directory of that name beside the config's; a network
            can be initialised from its own kind only.

    Raises:
        InputError: If the config cannot be read, or cannot be trained on what is there.
    """
    path = locate(source)
    if path.suffix.lower() not in MAPPING_SUFFIXES:
        return path
    config = read_experiment_config(path)
    config = replace(config, network=network, output=f"{config.output}_{network.name}")
    directory = RunDirectory(Path(config.output))
    if not directory.metrics_file.is_file():
        _log.info("training the initial weights first: %s, into %s", path, config.output)
        try:
            train(replace(config, resume=directory.config_file.is_file()))
        except InputError as error:
            raise InputError(
                f"init_from is '{source}', which is trained first: {error}. Or leave it out with --init-from null"
            ) from error
    return directory.best_file


def read_experiment_config(path: str | Path) -> TrainConfig:
    """A training's settings from a YAML file, or from a recipe by its name.

    Raises:
        InputError: The file cannot be read, or has a fault.

    Example:
        >>> read_experiment_config("tb_shenzhen_montgomery").data.classes
        ['normal', 'tuberculosis']
    """
    return read_config(locate(path), TrainConfig)


def read_config(path: Path, kind: type[Config]) -> Config:
    """A YAML file as a config of this kind; raises `InputError` if it cannot be read, or has a fault."""
    return parse_config(read_yaml(path), kind, str(path))


def parse_config(settings: Any, kind: type[Config], source: str) -> Config:
    """Plain values, as a YAML file holds them, as a config of this kind.

    Args:
        settings: Nested mappings.
        kind: A dataclass of settings.
        source: Begins the error.

    Raises:
        InputError: A setting is unknown, or has a value that it cannot have.
    """
    try:
        return parse_settings(settings, kind, "config")
    except ValueError as error:
        raise InputError(f"{source}: not the config of a training: {error}") from error


def sites_trained_on(source: str) -> set[str] | None:
    """Sites whose images the weights of `source`, as in `initial_checkpoint`, have seen, or will have.

    Returns:
        None where it is unknown: a checkpoint without the `config.yaml` of its training beside it.

    Raises:
        InputError: If a config or a manifest of it cannot be read.
    """
    path = locate(source)
    if path.suffix.lower() not in MAPPING_SUFFIXES:
        path = RunDirectory(path.parent).config_file
        if not path.is_file():
            return None
    config = read_experiment_config(path)
    sites = {str(site) for manifest in config.data.training for site in inspect_manifest(manifest)[0]["site"]}
    before = set() if config.init_from is None else sites_trained_on(config.init_from)
    return None if before is None else sites | before


def init_from(network: nn.Module, config: NetworkConfig, image_size: int, path: Path) -> None:
    """Gives `network` the weights of a trained classifier, except those of its last linear layer.

    The last layer separates the other training's classes; it keeps its random weights until
    `fit_last_layer`. Of a network that segments the lungs first, what classifies is meant.

    Args:
        network: Whose weights are replaced.
        config: Which one it is.
        image_size: Rows and columns of its images.
        path: A classifier's checkpoint; or a state dict of torchvision's or TorchXRayVision's DenseNet or ResNet, or,
            for a network of timm, of that network.

    Raises:
        InputError: If the file cannot be read, or is of another network.
    """
    network = network.classifier if isinstance(network, LungClassifier) else network
    weights = read_weights(path)
    if "format" not in weights and not config.name.startswith(TIMM):
        load_third_party(network, weights, path)
        return
    head, layer = last_layer(network)
    if "format" not in weights:
        state = timm_weights(config.name, weights, layer.out_features, image_size, path)
    else:
        state = trained_network(path, config).state_dict()
    own = {key: value for key, value in network.state_dict().items() if key.startswith(f"{head}.")}
    load_weights(network, {**state, **own}, path)


def trained_network(path: Path, config: NetworkConfig) -> nn.Module:
    """The backbone's network of a trained classifier, behind what segments the lungs where something does.

    Raises:
        InputError: If the checkpoint cannot be read, or is of another network than `config`.
    """
    classifier = Classifier.load(path)
    if classifier.config.name != config.name:
        raise InputError(
            f"{path}: the checkpoint is of a {classifier.config.name}, but the network is {config.name}: give a "
            "training of the same network, or leave it out"
        )
    network = classifier.network
    return network.classifier if isinstance(network, LungClassifier) else network


def fit_last_layer(network: nn.Module, images: DataLoader[Any]) -> None:
    """Fits the last linear layer to the classes, on the features that the network starts with; nothing else moves.

    A random last layer sorts the classes at random, often the wrong way round. Cross-entropy turns that in a few steps;
    a penalty on heatmaps, which holds every logit's relevance between bounds, can keep it as it is for good.

    Args:
        network: Its weights but the last layer's are those to start from.
        images: Loader of the training images, without random changes.

    Source:
        Linear probing before fine-tuning: Kumar et al., ICLR 2022 (arXiv 2202.10054). The fit is scikit-learn's
        logistic regression; all features are divided by one spread, so that one which hardly varies gets no weight.
    """
    network.eval()
    _, layer = last_layer(network)
    device = layer.weight.device
    batches = [(penultimate(network, batch["image"].to(device)).cpu(), batch["label"]) for batch in images]
    features, labels = (torch.cat(parts).double().numpy() for parts in zip(*batches, strict=True))
    has_bias = layer.bias is not None
    mean = features.mean(0) if has_bias else np.zeros(features.shape[1])
    spread = np.sqrt(features.var(0).mean()) or 1.0
    regression = LogisticRegression(C=_STRENGTH / len(labels), max_iter=1000, fit_intercept=has_bias)
    fitted = regression.fit((features - mean) / spread, labels)
    weight = fitted.coef_ / spread
    bias = fitted.intercept_ - weight @ mean
    if len(fitted.classes_) == 2:  # one row, for the second class against the first
        weight, bias = np.concatenate((-weight / 2, weight / 2)), np.concatenate((-bias / 2, bias / 2))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if has_bias:
            layer.bias.copy_(torch.from_numpy(bias))
