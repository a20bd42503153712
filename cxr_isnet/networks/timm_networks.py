"""Classification networks of timm (PyTorch Image Models), by the names that timm has for them."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from cxr_isnet.errors import InputError

_log = logging.getLogger(__name__)

TIMM = "timm:"
"""Begins the name of a network of timm."""


def timm_model(name: str, **settings: Any) -> nn.Module:
    """A model of timm.

    Args:
        name: As of `timm.list_models()`.
        settings: As of `timm.create_model`; with `pretrained=True` timm downloads its weights.

    Raises:
        InputError: timm is not installed, has no such model, or it does not take these settings.
    """
    try:
        timm = importlib.import_module("timm")
    except (ImportError, RuntimeError, OSError) as error:  # the last two of a torchvision that does not fit torch
        missing = isinstance(error, ModuleNotFoundError) and error.name == "timm"
        what = "is not installed: pip install 'cxr-isnet[timm]'" if missing else f"cannot be imported: {error}"
        raise InputError(f"'{TIMM}{name}' needs timm, which {what}") from error
    try:
        model: nn.Module = timm.create_model(name, **settings)
    except (RuntimeError, ValueError, TypeError, OSError, AssertionError, LookupError) as error:
        raise InputError(f"'{TIMM}{name}': timm cannot make it: {error}. Correct the name") from error
    return model


@cache
def timm_outline(name: str) -> nn.Module:
    """A model of timm without memory for its weights, for a look at its structure; errors as of `timm_model`."""
    with torch.device("meta"):
        return timm_model(name, in_chans=1, num_classes=2)


def build_timm(name: str, classes: int, image_size: int, dropout: float) -> nn.Module:
    """A model of timm for grey images, its weights drawn from torch's global generator; errors as of `timm_model`.

    Its last layer starts as torch's do: some models of timm scale it by the number of classes, for two of them to
    logits of some 10.
    """
    settings = _settings(name, classes, image_size)
    if dropout:
        settings["drop_rate"] = dropout
    model: Any = timm_model(name, **settings)
    classifier = model.get_classifier()
    if isinstance(classifier, nn.Linear):
        classifier.reset_parameters()
    network: nn.Module = model
    return network


def timm_with_weights(name: str, weights: Mapping[str, Tensor], classes: int, image_size: int) -> nn.Module:
    """A model of timm for grey images in [0, 1], with weights of timm's for this model; its last layer is a new one.

    The first convolution is summed to one channel, and the normalisation of its input is folded into it and its bias,
    or the batch norm that follows: exact but for a padded border. timm translates what it has renamed, and resizes
    embeddings of positions.

    Args:
        name: As of `timm_model`.
        weights: State dict of this model, for images of one or three channels.
        classes: Outputs of the model.
        image_size: Rows and columns of its images.

    Raises:
        InputError: As `timm_model`; or the weights are of another model.
    """
    folded = _folded(timm_outline(name), _outline_config(name), weights)
    entry = {"state_dict": folded, "input_size": (1, image_size, image_size)}
    return timm_model(name, pretrained=True, pretrained_cfg_overlay=entry, **_settings(name, classes, image_size))


def _settings(name: str, classes: int, image_size: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"in_chans": 1, "num_classes": classes}
    if _outline_config(name).get("fixed_input_size"):
        settings["img_size"] = image_size
    return settings


def _folded(outline: nn.Module, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict whose first convolutions take one channel in [0, 1]; they took three, normalised as in `config`."""
    folded = dict(weights)
    named = config.get("first_conv") or ()
    modules = [name for name, _ in outline.named_modules()]
    for first in (named,) if isinstance(named, str) else named:
        weight = weights.get(f"{first}.weight")
        if weight is None or weight.dim() != 4 or weight.shape[1] != 3:
            continue
        mean, deviation = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        folded[f"{first}.weight"] = (weight / deviation).sum(1, keepdim=True)
        shift = (weight * mean / deviation).sum((1, 2, 3))
        following = modules[modules.index(first) + 1]
        if f"{first}.bias" in weights:
            folded[f"{first}.bias"] = weights[f"{first}.bias"] - shift
        elif f"{following}.running_mean" in weights:
            folded[f"{following}.running_mean"] = weights[f"{following}.running_mean"] + shift
        else:
            _log.warning("%s has neither a bias nor a batch norm: the mean of its input is not folded into it", first)
    return folded


def timm_layers(name: str) -> tuple[str, ...]:
    """Module paths whose outputs timm names as features: the last at each size from a quarter of the image on, or, of a
    transformer with one size, those after one, two and three quarters of its blocks.

    (Of the last block only the class token is read: the relevance of its patches is zero.)
    """
    features: Sequence[dict[str, Any]] = list(getattr(timm_outline(name), "feature_info", ()))
    if len({feature["reduction"] for feature in features}) == 1:
        return tuple(dict.fromkeys(features[len(features) * i // 4 - 1]["module"] for i in (1, 2, 3)))
    by_size = {feature["reduction"]: feature["module"] for feature in features if feature["reduction"] >= 4}
    return tuple(by_size.values())


def timm_size_multiple(name: str) -> int:
    """What rows and columns of images must be a multiple of: a transformer's patch."""
    outline = timm_outline(name)
    fixed = _outline_config(name).get("fixed_input_size")
    patch = getattr(getattr(outline, "patch_embed", None), "patch_size", (1, 1))
    return int(patch[0]) if fixed else 1


def timm_feature_maps(name: str) -> Callable[[Tensor], Tensor]:
    """From what a layer of `timm_layers` gives to feature maps (B, C, h, w)."""
    outline = timm_outline(name)
    prefix = getattr(outline, "num_prefix_tokens", None) or 0
    return partial(_feature_maps, prefix, str(getattr(outline, "output_fmt", "NCHW")) == "NHWC")


def _feature_maps(prefix: int, channels_last: bool, output: Tensor) -> Tensor:
    if output.dim() == 3:
        return token_maps(prefix, output)
    return output.permute(0, 3, 1, 2) if channels_last else output


def token_maps(prefix: int, tokens: Tensor) -> Tensor:
    """Tokens of patches as feature maps of a square image.

    Args:
        prefix: Tokens before those of the patches, as a class token; none, where the rest would be no square.
        tokens: (B, N, C).

    Returns:
        (B, C, h, w), h = w.
    """
    patches = tokens.shape[1] - prefix
    start = prefix if math.isqrt(patches) ** 2 == patches else 0
    side = math.isqrt(tokens.shape[1] - start)
    maps: Tensor = tokens[:, start:].transpose(1, 2).unflatten(2, (side, side))
    return maps


def _outline_config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = getattr(timm_outline(name), "pretrained_cfg", {})
    return config
