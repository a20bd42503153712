"""`cxr-isnet methods` and `cxr-isnet networks`: what can be trained, with what it means."""

from __future__ import annotations

import dataclasses
import textwrap
from dataclasses import dataclass
from typing import Any

import docstring_parser
from torch.nn import Module

from cxr_isnet.config import as_plain
from cxr_isnet.networks import BACKBONES, find_backbone
from cxr_isnet.objectives import METHODS, Method, find_method

_WIDTH = 100


@dataclass(frozen=True)
class MethodsConfig:
    """The methods, or one of them with its settings.

    Attributes:
        name: Name or import path of a method, for all its settings with their defaults and meaning; null lists all.
    """

    name: str | None = None


@dataclass(frozen=True)
class NetworksConfig:
    """The networks, or one of them.

    Attributes:
        name: Name or import path of a network; null lists all.
    """

    name: str | None = None


def list_methods(config: MethodsConfig) -> str:
    """Every method in a line, or one with all its settings.

    Raises:
        InputError: There is no such method.
    """
    if config.name is None:
        lines = [f"{m.name:<26}{m.about} [{m.network}; needs {_needs(m)}]" for m in METHODS]
        return "\n".join([*lines, "", "`cxr-isnet methods NAME` shows the settings of one"])
    method = find_method(config.name)
    head = f"{method.name}: {method.about}\nnetwork: {method.network}; needs {_needs(method)}"
    place = method.name if method in METHODS else "custom"
    settings = list(_settings(method.options, f"options.{place}"))
    return "\n".join([head, "", *(settings or ["It has no settings of its own."])])


def list_networks(config: NetworksConfig) -> str:
    """Every network in a line, or one.

    Raises:
        InputError: There is no such network.
    """
    chosen = BACKBONES if config.name is None else (find_backbone(config.name),)
    lines = []
    for backbone in chosen:
        facts = ["relevance rules" if backbone.has_relevance_rules else "no relevance rules"]
        facts += ["dropout"] if backbone.has_dropout else []
        facts += [f"images from {backbone.smallest_size} px"]
        facts += [f"of a multiple of {backbone.size_multiple}"] if backbone.size_multiple > 1 else []
        own = [m.name for m in METHODS if m.network == backbone.name and m.network_class is not Module]
        facts += [f"of method {', '.join(own)}"] if own else []
        lines.append(f"{backbone.name:<26}{', '.join(facts)}")
    if config.name is None:
        lines += ["", "timm:NAME is a network of timm (PyTorch Image Models), where that is installed"]
    return "\n".join(lines)


def _needs(method: Method) -> str:
    """What a method needs beside images and labels, in words."""
    needs = ["lung masks"] if method.needs_masks else []
    needs += ["relevance rules"] if method.needs_relevance_rules else []
    needs += ["a network that names its last features"] if method.needs_feature_maps else []
    needs += ["a network of its kind"] if method.network_class is not Module else []
    needs += [f"{'an' if method.frozen[0] in 'aeiou' else 'a'} {method.frozen}"] if method.frozen else []
    return ", ".join(needs) or "labels only"


def _settings(kind: type[Any], place: str) -> list[str]:
    """A line for each setting of a dataclass with its default, and what it means below."""
    about = {entry.arg_name: entry.description or "" for entry in docstring_parser.parse(kind.__doc__ or "").params}
    for base in kind.__mro__[1:]:
        inherited = docstring_parser.parse(base.__doc__ or "") if dataclasses.is_dataclass(base) else None
        about = {e.arg_name: e.description or "" for e in inherited.params} | about if inherited else about
    lines: list[str] = []
    for field in dataclasses.fields(kind):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            lines += _settings(type(default), f"{place}.{field.name}")
            continue
        shown = "required" if default is dataclasses.MISSING else as_plain(default)
        lines.append(f"{place}.{field.name} = {'null' if shown is None else shown}")
        text = " ".join(about.get(field.name, "").split())
        lines += textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return lines
