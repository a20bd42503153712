"""Methods by name: network + objective. A file in this folder that registers a method is found by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, NetworkSpec, build_network, network_spec
from cxr_isnet.objectives.objective import Objective
from cxr_isnet.registry import Registry


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


METHODS: Registry[Method] = Registry("method", "cxr_isnet.objectives")
