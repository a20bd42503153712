"""An objective by the name of its method, with options as a YAML file spells them."""

from typing import Any

from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import find_method
from cxr_isnet.objectives.objective import Objective


def make_objective(method: str, network: NetworkConfig, classes: int, **options: Any) -> Objective:
    """The objective for images of 32 pixels."""
    found = find_method(method)
    return found.objective(network, classes, 32, found.parse_options(options))
