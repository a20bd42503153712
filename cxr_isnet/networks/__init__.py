"""Classifiers."""

from cxr_isnet.networks.last_layer import last_layer, penultimate
from cxr_isnet.networks.registry import NETWORKS, NetworkConfig, NetworkSpec, build_network, network_spec

__all__ = ["NETWORKS", "NetworkConfig", "NetworkSpec", "build_network", "last_layer", "network_spec", "penultimate"]
