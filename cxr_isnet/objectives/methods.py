"""The methods, and how one is found: by its name, or by the import path of one that is defined elsewhere."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Any

from cxr_isnet.config import as_plain, choose, is_import_path, load_object
from cxr_isnet.errors import InputError
from cxr_isnet.objectives.ag_sononet import AG_SONONET
from cxr_isnet.objectives.background_swap import BACKGROUND_SWAP
from cxr_isnet.objectives.cross_entropy import CROSS_ENTROPY
from cxr_isnet.objectives.gain import GAIN
from cxr_isnet.objectives.groups import BALANCED, GROUP_DRO
from cxr_isnet.objectives.ham import HAM
from cxr_isnet.objectives.isnet import (
    ISNET,
    ISNET_DUAL,
    ISNET_GRAD_INPUT,
    ISNET_SELECTIVE,
    ISNET_SOFTMAX_GRAD_INPUT,
    ISNET_STOCHASTIC,
)
from cxr_isnet.objectives.linear_probe import LINEAR_PROBE
from cxr_isnet.objectives.masked_image import LUNGS_ONLY, TWO_STAGE
from cxr_isnet.objectives.method import Method
from cxr_isnet.objectives.multitask_unet import MULTITASK_UNET
from cxr_isnet.objectives.rrr import RRR
from cxr_isnet.objectives.vit_b16 import VIT_B16

METHODS: tuple[Method, ...] = (
    CROSS_ENTROPY,
    ISNET,
    ISNET_SELECTIVE,
    ISNET_STOCHASTIC,
    ISNET_DUAL,
    ISNET_GRAD_INPUT,
    ISNET_SOFTMAX_GRAD_INPUT,
    RRR,
    TWO_STAGE,
    LUNGS_ONLY,
    BALANCED,
    GROUP_DRO,
    BACKGROUND_SWAP,
    LINEAR_PROBE,
    VIT_B16,
    GAIN,
    MULTITASK_UNET,
    AG_SONONET,
    HAM,
)
"""The built-in methods. A new one is a file in this folder and an entry here."""

_OLD_NAMES = {"densenet121": "cross_entropy"}


def find_method(name: str) -> Method:
    """The method of this name.

    Args:
        name: Of a built-in method; or the import path of a `Method` defined elsewhere, as `my_method.METHOD`.

    Raises:
        InputError: There is none; names the choices.
    """
    if name in _OLD_NAMES:
        warnings.warn(f"method '{name}' is now called '{_OLD_NAMES[name]}'", UserWarning, stacklevel=2)
        name = _OLD_NAMES[name]
    if is_import_path(name):
        method: Method = load_object("method", name, Method)
        return method
    return choose("method", name, METHODS)


def refuse_foreign_code(kind: str, name: str, source: str, *, trust: bool) -> None:
    """Stops a file from having a module imported that the user did not ask for.

    Args:
        kind: What is named, e.g. "method".
        name: As the file names it.
        source: The file.
        trust: The user trusts the file.

    Raises:
        InputError: The name is an import path of a module that is not loaded, and the file is not trusted.
    """
    if is_import_path(name) and not trust and name.replace(":", ".").rpartition(".")[0] not in sys.modules:
        raise InputError(
            f"{source}: names the {kind} '{name}', which is code outside cxr-isnet. If you trust the file, allow it "
            "with --trust true, and run where that module can be imported"
        )


def _options_class() -> type[Any]:
    """One dataclass with the options of every method that has some, by its name."""
    named = [(m.name, m.options, field(default_factory=m.options)) for m in METHODS if fields(m.options)]
    built = make_dataclass(
        "MethodOptions",
        [*named, ("custom", dict[str, Any], field(default_factory=dict))],
        frozen=True,
        namespace={"__module__": __name__},
    )
    lines = [f"        {name}: Options of method {name}." for name, _, _ in named]
    lines.append("        custom: Options of a method given by its import path.")
    built.__doc__ = "Settings by name of method; those of other methods are ignored.\n\n    Attributes:\n"
    built.__doc__ += "\n".join(lines)
    return built


MethodOptions: Any = _options_class()
"""Dataclass with a field for each method, its options dataclass, and `custom` for those of a method by import path."""


def options_of(options: Any, method: Method) -> Any:
    """The settings of one method out of `MethodOptions`, as that method's dataclass."""
    if method not in METHODS:
        return method.parse_options(options.custom)
    return getattr(options, method.name) if fields(method.options) else method.options()


def options_by_method(given: Mapping[str, Mapping[str, Any]]) -> Any:
    """`MethodOptions` from plain values, as `{"isnet": {"heatmap_weight": 0.5}}`.

    Raises:
        InputError: There is no such method or option.
    """
    known = {item.name for item in fields(MethodOptions)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InputError(f"options has {unknown[0]!r}, which is no method with options; known: {', '.join(known)}")
    values = {name: dict(v) if name == "custom" else find_method(name).parse_options(v) for name, v in given.items()}
    return MethodOptions(**values)


def resolved_options(options: Any, method: Method) -> dict[str, Any]:
    """The settings of one method with every default, as plain values under the key that a config has for them."""
    values = options_of(options, method)
    assert is_dataclass(values)
    plain = as_plain(values)
    return {method.name if method in METHODS else "custom": plain} if plain else {}
