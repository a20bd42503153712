"""The part of a predictor that a training takes from elsewhere and leaves as it is: a lung segmenter, an encoder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cxr_isnet.data import ImageConfig
from cxr_isnet.engine import RunDirectory, load_weights
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import MAPPING_SUFFIXES, digest
from cxr_isnet.networks import NetworkConfig, SegmenterConfig, build_network, last_layer, timm_model
from cxr_isnet.objectives import Method
from cxr_isnet.segmentation import Segmenter, SegmentTrainConfig, find_third_party, read_splits, train_segmenter
from cxr_isnet.shipped import locate
from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.initialisation import read_config, trained_network
from cxr_isnet.training.third_party_weights import read_weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenPart:
    """Weights of a module of a predictor.

    Attributes:
        module: Its path in the predictor.
        options: The method's options, completed with what the part is, so that the predictor can be built without its
            file.
        weights: State dict.
        path: File that they were read from, or the name by which a library has them.
    """

    module: str
    options: Any
    weights: Mapping[str, Tensor]
    path: Path

    @property
    def identity(self) -> str:
        """SHA-256 of the file; the name where a library has the weights."""
        return digest(self.path) if self.path.is_file() else str(self.path)

    def fill(self, predictor: nn.Module) -> None:
        """Gives the predictor's module the weights."""
        load_weights(predictor.get_submodule(self.module), self.weights, self.path)


def read_frozen_part(method: Method, options: Any, config: TrainConfig) -> FrozenPart | None:
    """The frozen part of the method's predictor; None where it has none.

    Args:
        method: Whose predictor.
        options: Its options, which name the part.
        config: The training.

    Raises:
        InputError: The part cannot be read, or cannot be trained, or does not take the training's images.
    """
    if not method.frozen:
        return None
    return {"segmenter": _segmenter, "encoder": _encoder}[method.frozen](method, options, config)


def _encoder(method: Method, options: Any, config: TrainConfig) -> FrozenPart:
    source, network = options.encoder, config.network or NetworkConfig(method.network)
    if source is None:
        raise InputError(
            f"options.{method.name}.encoder is null: name best.pt of a training of {network.name}, a file with a state "
            "dict of it, or timm:NAME"
        )
    if options.timm_model is not None:
        model = timm_model(options.timm_model, pretrained=True, num_classes=0)
        return FrozenPart("encoder.network", options, model.state_dict(), Path(source))
    path = locate(source)
    state = read_weights(path)
    if "format" in state:
        classifier = trained_network(path, network)
        state = classifier.state_dict()
        head = last_layer(classifier)[0]
    else:
        head = last_layer(build_network(network, len(config.data.classes), config.data.image.size))[0]
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: no state dict of {network.name}: needed are tensors by name, and nothing else")
    weights = {key: value for key, value in state.items() if not key.startswith(f"{head}.")}
    return FrozenPart("encoder", options, weights, path)


def _segmenter(method: Method, options: Any, config: TrainConfig) -> FrozenPart:
    if find_third_party(options.segmenter or "") is not None:
        raise InputError(
            f"options.{method.name}.segmenter is {options.segmenter!r}: this method keeps its segmenter in the "
            "checkpoint, which holds no third-party network. Predict masks by it (`cxr-isnet segment predict`), train "
            "a segmenter on them (`cxr-isnet segment train`) and give its best.pt"
        )
    path = _segmenter_file(method.name, options.segmenter, config)
    segmenter = Segmenter.load(path)
    if segmenter.image.equalize != config.data.image.equalize:
        raise InputError(
            f"{path}: the segmenter takes images with image.equalize {segmenter.image.equalize}, the classifier with "
            f"data.image.equalize {config.data.image.equalize}. Train a segmenter with the classifier's, or the "
            "classifier with the segmenter's"
        )
    completed = replace(options, segmenter_network=segmenter.config, segmenter_size=segmenter.image.size)
    return FrozenPart("segmenter", completed, segmenter.network.state_dict(), path)


def _segmenter_file(method: str, source: str | None, config: TrainConfig) -> Path:
    """The segmenter's checkpoint; that of a training, which is run first unless it has been run."""
    if source is None:
        training = segmenter_training(config, f"{config.output}_segmenter")
    else:
        path = locate(source)
        if path.suffix.lower() not in MAPPING_SUFFIXES:
            return path
        training = read_config(path, SegmentTrainConfig)
    try:
        return train_segmenter_once(training)
    except InputError as error:
        raise InputError(
            f"options.{method}.segmenter is {source!r}: a segmenter is trained first: {error}. Or name best.pt of "
            "`cxr-isnet segment train`"
        ) from error


def train_segmenter_once(training: SegmentTrainConfig) -> Path:
    """The checkpoint of a segmenter's training, which is run, or resumed, unless it is finished."""
    directory = RunDirectory(Path(training.output))
    if not directory.metrics_file.is_file():
        _log.info("training the lung segmenter first, into %s", training.output)
        splits = read_splits(
            training.training, training.external, training.validation_fraction, training.seed, training.heart_included
        )
        train_segmenter(replace(training, resume=directory.config_file.is_file()), splits)
    return directory.best_file


def segmenter_training(config: TrainConfig, output: str) -> SegmentTrainConfig:
    """The training of a segmenter on the given masks of a classifier's images, of no more than their size."""
    stride = SegmenterConfig().stride
    size = min(SegmentTrainConfig([""], "").image.size, config.data.image.size // stride * stride)
    return SegmentTrainConfig(
        config.data.training,
        output,
        image=ImageConfig(size, config.data.image.equalize),
        seed=config.seed,
        device=config.device,
        workers=config.data.workers,
        tracking=replace(config.tracking, run_name=None),
    )
