"""Methods by name: network + objective. A file in this folder that registers a method is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from cxr_isnet import objectives
from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, NetworkSpec, build_network, network_spec
from cxr_isnet.objectives.objective import Objective

_METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """One model of a study: which network it takes unless told otherwise, and what it minimises.

    Attributes:
        name: As given on the command line.
        options: Dataclass of its settings.
        build: (network, what is known of the network, options) -> objective.
        network: Default network.
    """

    name: str
    options: type[Any]
    build: Callable[[nn.Module, NetworkSpec, Any], Objective]
    network: str = "densenet121"

    def objective(self, network: NetworkConfig, classes: int, options: Mapping[str, Any]) -> Objective:
        """Builds network and objective; raises `InputError` for an unknown option or value, naming the choices."""
        return self.build(build_network(network, classes), network_spec(network.name), self.parse(options))

    def parse(self, options: Mapping[str, Any]) -> Any:
        """Options as given in a YAML file -> the method's dataclass."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(self.options, "options")
        try:
            return parser.instantiate(parser.parse_object({"options": dict(options)})).options
        except (ArgumentError, TypeError, ValueError) as error:
            known = ", ".join(self.options.__dataclass_fields__) or "none"
            raise InputError(f"options of method '{self.name}': {error}. Its options are: {known}") from error


def register(method: Method) -> Method:
    """Adds a method; a name that is taken is an error."""
    if method.name in _METHODS:
        raise ValueError(f"method '{method.name}' is registered twice")
    _METHODS[method.name] = method
    return method


def methods() -> Mapping[str, Method]:
    """All methods by name."""
    for module in pkgutil.iter_modules(objectives.__path__, f"{objectives.__name__}."):
        importlib.import_module(module.name)
    return dict(sorted(_METHODS.items()))


def get_method(name: str) -> Method:
    """The method `name`; raises `InputError` naming the choices."""
    known = methods()
    if name not in known:
        raise InputError(f"method is '{name}'; known: {', '.join(known)}")
    return known[name]
