"""Weights of torchvision and TorchXRayVision in a DenseNet or ResNet of MONAI, and of timm in a network of timm."""

from __future__ import annotations

import logging
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DenseNet, ResNet
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from cxr_isnet.engine import check_whole, load_state, load_weights
from cxr_isnet.errors import InputError
from cxr_isnet.networks import TIMM, timm_with_weights

_log = logging.getLogger(__name__)

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of torch.save begins that is no zip, as those of torchvision's older weights."""

_NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep the state dict."""

_MEAN, _SPREAD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
"""Of ImageNet's red, green and blue in [0, 1], by which the input of torchvision's weights is normalised."""

_XRAYVISION_OUTPUTS = 18
"""Findings that TorchXRayVision's classifiers tell; their input is in [-1024, 1024]."""

_FIRST = {DenseNet: ("features.conv0", "features.norm0"), ResNet: ("conv1", "bn1")}
_HEAD = {DenseNet: "class_layers.out.", ResNet: "fc."}


def read_weights(path: Path) -> Mapping[str, Any]:
    """What a file of weights holds, read without running any code.

    Args:
        path: `.safetensors`, or a file of `torch.save`, those of older versions included.

    Returns:
        A state dict, also where the file has it under the key `state_dict`, `model_state_dict` or `model`; or a
        checkpoint of this program, as it is.

    Raises:
        InputError: The file is missing or damaged, or holds more than numbers, texts and tensors, or no weights.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint. Give best.pt of a training's folder, or a state dict")
    held = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_torch(path)
    for key in _NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(name, str) for name in held):
        raise InputError(f"{path}: holds no weights by name. Give a state dict: torch.save(model.state_dict(), ...)")
    return held


def load_third_party(network: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Gives the DenseNet or ResNet in a network the weights of another library's, all but its last layer's.

    The first convolution is summed to one channel. What its library does to an image in [0, 1] beforehand, ImageNet's
    mean and deviation or the scale from -1024 to 1024, is folded into it and its batch norm; that is exact but for the
    image's border, whose padding meant another grey value. What is taken and what is left out is logged.

    Args:
        network: A network with one DenseNet or ResNet of MONAI in it, of one input channel.
        weights: State dict with torchvision's names, of the same architecture; a prefix of all names is found.
        path: Where they are from, for messages.

    Raises:
        InputError: The network has no such part, or the weights are of another architecture.
    """
    parts = [module for module in network.modules() if isinstance(module, DenseNet | ResNet)]
    if len(parts) != 1:
        raise InputError(
            f"{path}: weights of another library go into a DenseNet or a ResNet; the network has {len(parts)}. Leave "
            "init_from out, or choose a network as 'densenet121'"
        )
    part, kind = parts[0], next(kind for kind in _FIRST if isinstance(parts[0], kind))
    prefix = _prefix(weights, kind, path)
    named = {
        _monai_name(name.removeprefix(prefix)): value.float() if value.is_floating_point() else value
        for name, value in weights.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    own = part.state_dict()
    taken = {name: value for name, value in named.items() if name in own and not name.startswith(_HEAD[kind])}
    left_out = [name for name in weights if _monai_name(name.removeprefix(prefix)) not in taken]
    thresholds = any(name.endswith("op_threshs") for name in weights)
    note = _fold_input(taken, kind, part, outputs=_outputs(named), thresholds=thresholds, path=path)
    for name in own.keys() - taken.keys():
        if name.endswith("downsample.0.bias"):  # MONAI's has one, before a batch norm
            taken[name] = torch.zeros_like(own[name])
        elif name.startswith(_HEAD[kind]) or name.endswith("num_batches_tracked"):
            taken[name] = own[name]
    _check_fit(taken, own, [name for name in left_out if re.search(r"features\.|layer\d", name)], path)
    load_weights(part, taken, path)
    _log.info("%s: %s. Left out: %s", path, note, ", ".join(left_out) or "nothing")


def timm_weights(name: str, weights: Mapping[str, Any], classes: int, image_size: int, path: Path) -> dict[str, Tensor]:
    """State dict of a network of timm for grey images in [0, 1], from one of timm's for that model.

    Args:
        name: Of the network, as `timm:convnext_tiny`.
        weights: State dict, as `timm.create_model(..., pretrained=True).state_dict()` gives it.
        classes: Outputs of the network; its last layer is a new one.
        image_size: Rows and columns of its images.
        path: Where the weights are from, for messages.

    Raises:
        InputError: They are of another model.
    """
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    try:
        model = timm_with_weights(name.removeprefix(TIMM), tensors, classes, image_size)
    except InputError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise InputError(
            f"{path}: weights of another model than '{name}': {reason}. Give the state dict of that model of timm, or "
            "leave init_from out"
        ) from error
    _log.info("%s: weights of %s. Left out: its last layer", path, name)
    return model.state_dict()


def _read_torch(path: Path) -> Any:
    with path.open("rb") as file:
        begin = file.read(len(_LEGACY))
    if begin != _LEGACY and not zipfile.is_zipfile(path):  # torch's reader fails on other files in too many ways
        raise InputError(f"{path}: damaged, or no file of torch.save. Give a checkpoint or a state dict")
    if begin != _LEGACY:
        check_whole(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: damaged, or a pickled object, which could run code and is not read. Save its weights alone, "
            "where it comes from: torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}): copy or download it again") from error


def _read_safetensors(path: Path) -> Any:
    try:
        with safe_open(path, "pt") as file:
            if "state" in (file.metadata() or {}):  # a checkpoint of this program
                return load_state(path)
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}): copy or download it again") from error


def _prefix(weights: Mapping[str, Any], kind: type[nn.Module], path: Path) -> str:
    """What stands before the names of the DenseNet or ResNet in a state dict."""
    marks = {DenseNet: "features.conv0.weight", ResNet: "layer1.0.conv1.weight"}
    found = {k: [name for name in weights if name.endswith(mark)] for k, mark in marks.items()}
    if len(found[kind]) == 1:
        return found[kind][0].removesuffix(marks[kind])
    held = ", ".join(f"{len(names)} {k.__name__}" for k, names in found.items() if names)
    raise InputError(
        f"{path}: the network is a {kind.__name__}, but the file holds {held or 'none of torchvision'}, e.g. "
        f"'{next(iter(weights))}'. Give weights of the same architecture, or choose the network that they are of"
    )


def _monai_name(name: str) -> str:
    """Name in MONAI of a weight of torchvision; those of a ResNet are the same."""
    name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)  # files of torchvision before 0.3
    return re.sub(r"(denselayer\d+)\.", r"\1.layers.", name)


def _outputs(named: Mapping[str, Tensor]) -> int:
    head = next((named[name] for name in ("classifier.weight", "fc.weight") if name in named), None)
    return 0 if head is None else len(head)


def _fold_input(
    taken: dict[str, Tensor], kind: type[nn.Module], part: nn.Module, *, outputs: int, thresholds: bool, path: Path
) -> str:
    """Makes the first convolution one of an image in [0, 1] with one channel; returns what was done, in words."""
    convolution, norm = (part.get_submodule(name) for name in _FIRST[kind])
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    names = [f"{_FIRST[kind][0]}.weight", *(f"{_FIRST[kind][1]}.{name}" for name in ("running_mean", "running_var"))]
    lacking = [name for name in names if name not in taken]
    if lacking:
        raise InputError(f"{path}: lacks '{lacking[0]}'. Give a whole state dict")
    weight, mean, variance = (taken[name] for name in names)
    stride = convolution.stride[0]
    words = "" if stride == 2 else f"; its first convolution had a stride of 2, here of {stride}"
    channels = weight.shape[1]
    if channels == 3:
        factor, offset = 1 / _SPREAD, -_MEAN / _SPREAD
        words = "three channels, normalised as ImageNet, folded into one" + words
    elif channels == 1 and (thresholds or outputs == _XRAYVISION_OUTPUTS):
        factor, offset = torch.tensor([2048.0]), torch.tensor([-1024.0])
        words = "TorchXRayVision's input from -1024 to 1024 folded into the first convolution" + words
    elif channels == 1:
        return "one channel, taken to have been trained on images in [0, 1]" + words
    else:
        raise InputError(f"{path}: its images have {channels} channels; needed: 1 or 3")
    shift = (weight.sum((2, 3)) * offset).sum(1)
    # The output is divided by the mean factor too, so that the weights keep their size; the batch norm undoes that.
    # It cannot where a channel hardly varies: its variance would become less than nothing.
    scale = torch.minimum(factor.mean(), ((variance + norm.eps) / (2 * norm.eps)).sqrt())
    folded = (weight * factor.view(1, -1, 1, 1)).sum(1, keepdim=True) / scale.view(-1, 1, 1, 1)
    new = folded, (mean - shift) / scale, (variance + norm.eps) / scale**2 - norm.eps
    taken.update(zip(names, new, strict=True))
    return words + "; exact but for the border"


def _check_fit(taken: Mapping[str, Tensor], own: Mapping[str, Tensor], foreign: list[str], path: Path) -> None:
    missing = sorted(own.keys() - taken.keys())
    other = sorted(name for name in own.keys() & taken.keys() if own[name].shape != taken[name].shape)
    parts = [("missing", missing), ("not in this network", foreign), ("of another shape", other)]
    differences = "; ".join(f"{len(names)} {what}, e.g. {names[0]}" for what, names in parts if names)
    if differences:
        raise InputError(
            f"{path}: weights of another architecture: {differences}. Choose the network that they are of, as "
            "'densenet121', or leave init_from out"
        )
