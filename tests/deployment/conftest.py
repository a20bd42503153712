"""A classifier that was never trained: saving, loading and predicting do not care."""

import pytest
import torch

from cxr_isnet.data import ImageConfig
from cxr_isnet.deployment import Classifier
from cxr_isnet.networks import NetworkConfig, build_network


@pytest.fixture
def classifier() -> Classifier:
    """Two classes, images of 32 pixels, batch statistics that a few images have moved."""
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny", dropout=0.2)
    network = build_network(config, 2).train()
    with torch.no_grad():
        network(torch.rand(8, 1, 32, 32))
    return Classifier(network.eval(), config, ("normal", "tuberculosis"), ImageConfig(32, equalize=False), "isnet")
