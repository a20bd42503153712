"""A trained classifier in use: image files in, class probabilities out."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cxr_isnet.config import is_import_path
from cxr_isnet.data import ImageConfig, load_image
from cxr_isnet.engine import damaged, load_network, load_state, save_state
from cxr_isnet.errors import InputError
from cxr_isnet.inference.explainers import Explainer, make_explainer
from cxr_isnet.inference.feature_distance import FeatureReference
from cxr_isnet.inference.read_ahead import in_batches
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives import Explanation, Method, find_method, refuse_foreign_code

if TYPE_CHECKING:  # a registered model predicts where what evaluates is not installed
    from cxr_isnet.evaluation import FloatArray, IntArray, ShippedDecision

_BEFORE_FORMAT_3 = {"resnet18": "resnet18_stride1", "resnet50": "resnet50_stride1"}
"""What networks are called now by whose name checkpoints of formats 1 and 2 mean others."""

_log = logging.getLogger(__name__)

BF16_TOLERANCE = 1e-3
"""Largest change of a probability with which bf16 is used where it is asked for."""


@dataclass
class Classifier:
    """A trained classifier. No mask and no relevance are involved when it predicts.

    Attributes:
        network: What predicts, images (B, 1, size, size) in [0, 1] to logits (B, classes), in evaluation mode.
        config: Which backbone it is made of.
        classes: Labels in the order of the outputs.
        image: How files become images, the same as in training.
        method: Name of the method it was trained with.
        options: Settings of the method, as plain values.
        temperature: What the logits are divided by for calibrated probabilities, fitted on in-domain validation; 1
            where none was fitted. Probabilities are the network's own unless calibrated ones are asked for.
        threshold: Of two classes, the second is decided for from this probability of the network's own on, fitted on
            in-domain validation; None takes the most probable class.
        reference: Features of the training images, which say how far another image is; None without.
        provenance: Everything that decided its training, as plain values: settings with every default, digests of the
            manifests, versions. It names no path.

    Example:
        >>> classifier = Classifier.load("runs/first/best.pt")
        >>> table = classifier.predict(["chest.dcm"])
        >>> list(table.columns)
        ['path', 'probability_normal', 'probability_tuberculosis']
        >>> classifier.explain(["chest.dcm"]).shape
        torch.Size([1, 2, 32, 32])
    """

    network: nn.Module
    config: NetworkConfig
    classes: tuple[str, ...]
    image: ImageConfig
    method: str
    temperature: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    reference: FeatureReference | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the classifier to one file, whole or not at all; without a pickle if its name ends in .safetensors."""
        state = {
            "network": asdict(self.config),
            "image": asdict(self.image),
            "classes": list(self.classes),
            "method": self.method,
            "options": dict(self.options),
            "temperature": self.temperature,
            "threshold": self.threshold,
            "provenance": dict(self.provenance),
            "weights": self.network.state_dict(),
        }
        if self.reference is not None:
            state["reference"] = {"mean": self.reference.mean, "precision": self.reference.precision}
            state["reference_limit"] = self.reference.limit
        save_state(path, state)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu", *, trust: bool = False) -> Classifier:
        """Reads what `save` wrote.

        Args:
            path: `best.pt` of a training's folder; one of an older version is read too.
            device: Where it is to compute.
            trust: Allows the file to name a method or a network that is defined outside cxr-isnet, which is then
                imported. One that is imported already needs no trust.

        Raises:
            InputError: If the file is missing, damaged, not a classifier's, or names foreign code untrusted.
        """
        path = Path(path)
        state = load_state(path)
        missing = {"network", "classes", "image", "method", "weights"} - state.keys()
        if missing:
            raise InputError(f"{path}: the state of a training, not a classifier: give best.pt of the same folder")
        _check_settings(state, path)
        refuse_foreign_code("method", state["method"], str(path), trust=trust)
        refuse_foreign_code("network", state["network"]["name"], str(path), trust=trust)
        options = state.get("options", {})
        with damaged(path):
            config, image = NetworkConfig(**state["network"]), ImageConfig(**state["image"])
            if state["format"] < 3:
                config = replace(config, name=_BEFORE_FORMAT_3.get(config.name, config.name))
            reference = _reference(state)
            built = build_predictor(state["method"], options, config, len(state["classes"]), image.size)
        network = load_network(built, state["weights"], path, device)
        name = state["method"] if is_import_path(state["method"]) else find_method(state["method"]).name
        return cls(
            network,
            config,
            tuple(state["classes"]),
            image,
            name,
            float(state.get("temperature", 1.0)),
            options,
            state.get("threshold"),
            reference,
            state.get("provenance", {}),
        )

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def digest(self) -> str:
        """SHA-256 of the weights and all settings: the same wherever the classifier was loaded from."""
        settings = [asdict(self.config), asdict(self.image), self.classes, self.method, dict(self.options)]
        found = hashlib.sha256(json.dumps([*settings, self.temperature, self.threshold]).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def new_network(self) -> nn.Module:
        """A network of the same kind on the same device, its weights drawn from torch's global generator."""
        built = build_predictor(self.method, self.options, self.config, len(self.classes), self.image.size)
        return built.to(self.device)

    def explainer(self, kind: Explanation | None = None, network: nn.Module | None = None) -> Explainer:
        """What draws a map for every class.

        Args:
            kind: How; None takes the method's own way.
            network: Another network of the same kind to be explained; None takes the classifier's.
        """
        return make_explainer(network or self.network, self._method(), self.config, kind)

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, calibrated: bool = False) -> Tensor:
        """Class probabilities (B, classes) float32, on the CPU, of prepared images (B, 1, size, size).

        Args:
            images: (B, 1, size, size) in [0, 1].
            calibrated: Divides the logits by the temperature; else they are the network's own.
        """
        logits = self.network(images.to(self.device)).float()
        scaled: Tensor = logits / self.temperature if calibrated else logits
        return scaled.softmax(1).cpu()

    def decide(self, probabilities: FloatArray) -> IntArray:
        """Index of the class decided for (N,), from the network's own probabilities (N, classes): at the threshold, or
        the most probable."""
        if self.threshold is None:
            return np.asarray(probabilities.argmax(1), dtype=np.int64)
        return (probabilities[:, 1] >= self.threshold).astype(np.int64)

    @property
    def decision(self) -> ShippedDecision:
        """How it decides, as its training fitted it on validation."""
        from cxr_isnet.evaluation import ShippedDecision

        return ShippedDecision.of(self.threshold, self.temperature, self.classes)

    def predict(
        self,
        paths: Sequence[str | os.PathLike[str]],
        batch_size: int = 16,
        *,
        calibrated: bool = False,
        workers: int = 2,
        bf16: bool = False,
    ) -> pd.DataFrame:
        """Columns `path` and `probability_<class>`, one row per file (PNG, JPEG or DICOM), in order.

        Args:
            paths: The files.
            batch_size: Files at a time.
            calibrated: As for `probabilities`.
            workers: Threads that read and decode ahead of the network, two batches at most; 0 reads in between.
            bf16: Computes in bf16 with channels last, which takes a third of the time on many processors, if the first
                batch's probabilities then are within 0.001 of those of float32; else, with a warning, in float32.

        Raises:
            InputError: If a file cannot be read; the message names it.
        """
        rows: list[Tensor] = []
        compute = self.probabilities
        for images in in_batches(self.load_image, paths, batch_size, workers):
            batch = torch.stack(images)
            if bf16 and not rows:
                compute = self._in_bf16(batch).probabilities
            rows.append(compute(batch, calibrated=calibrated))
        table = torch.cat(rows).double().numpy() if rows else torch.empty(0, len(self.classes)).numpy()
        columns: Mapping[str, Any] = {f"probability_{name}": table[:, i] for i, name in enumerate(self.classes)}
        return pd.DataFrame({"path": [os.fspath(p) for p in paths], **columns})

    def _in_bf16(self, images: Tensor) -> Classifier:
        """The classifier in bf16, if its probabilities of these images are near enough; else itself, with a warning."""
        fast = replace(self, network=_InBf16(self.network))
        change = float((fast.probabilities(images) - self.probabilities(images)).abs().max())
        if change <= BF16_TOLERANCE:  # which NaN is not
            return fast
        _log.warning(
            "bf16 changes probabilities of the first images by %.2g, more than %g: computing in float32",
            change,
            BF16_TOLERANCE,
        )
        return self

    def load_image(self, path: str | os.PathLike[str]) -> Tensor:
        """A file as the network gets it: (1, size, size) in [0, 1]; raises `InputError` if it cannot be read."""
        return load_image(path, self.image)

    def explain(self, paths: Sequence[str | os.PathLike[str]], kind: Explanation | None = None) -> Tensor:
        """A map for every class of every file, (N, classes, size, size) on the CPU, signed.

        Args:
            paths: The files.
            kind: How; None takes the method's own way.

        Raises:
            InputError: A file cannot be read, or the classifier cannot be explained so.
        """
        explainer = self.explainer(kind)
        if explainer.explain is None:
            raise InputError(f"no maps: {explainer.reason}. Ask for explainer 'input_gradient'")
        maps = [explainer.explain(self.load_image(path)[None].to(self.device))[1].cpu() for path in paths]
        return torch.cat(maps) if maps else torch.empty(0, len(self.classes), self.image.size, self.image.size)

    def _method(self) -> Method:
        return find_method(self.method)


class _InBf16(nn.Module):
    """A network in bf16, its convolutions with channels last. The network that it is made from stays as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: nn.Module = copy.deepcopy(network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits


def build_predictor(
    method: str, options: Mapping[str, Any], config: NetworkConfig, classes: int, image_size: int
) -> nn.Module:
    """The network with which a classifier predicts, its weights drawn from torch's global generator.

    Args:
        method: Name of the method that it is trained with.
        options: Settings of the method, as plain values.
        config: The backbone that it is made of.
        classes: Number of classes.
        image_size: Rows and columns of its images.
    """
    found = find_method(method)
    return found.build_predictor(config, classes, image_size, found.parse_options(options))


def _check_settings(state: Mapping[str, Any], path: Path) -> None:
    """Whether what a file says of a classifier can be of one."""
    classes, temperature, threshold = state["classes"], state.get("temperature", 1.0), state.get("threshold")
    mappings = all(isinstance(state.get(key, {}), Mapping) for key in ("network", "image", "options", "provenance"))
    names = [state["method"], *(classes if isinstance(classes, list | tuple) else [None])]
    sound = (
        mappings
        and isinstance(state["network"].get("name"), str)
        and all(isinstance(name, str) for name in names)
        and len(set(classes)) == len(classes) > 1
        and isinstance(temperature, int | float)
        and 0 < temperature < math.inf
        and (threshold is None or (isinstance(threshold, int | float) and 0 <= threshold <= 1))
    )
    if not sound:
        raise InputError(f"{path}: damaged: its settings are of no classifier. Restore the file")


def _reference(state: Mapping[str, Any]) -> FeatureReference | None:
    reference = state.get("reference")
    if reference is None:
        return None
    found = FeatureReference(**reference, limit=float(state["reference_limit"]))
    size = len(found.mean)
    whole = found.mean.shape == (size,) and found.precision.shape == (size, size) and found.limit > 0
    if not (whole and bool(found.mean.isfinite().all()) and bool(found.precision.isfinite().all())):
        raise ValueError("reference of the features")
    return found
