import pytest
import torch
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import BACKBONES, NetworkConfig, build_network, find_backbone
from cxr_isnet.relevance import LRP

SMALL = ("densenet_small", "densenet_tiny", "resnet18")


def test_the_network_of_the_study_is_the_one_taken_by_default():
    assert NetworkConfig().name == "densenet121"


@pytest.mark.parametrize("name", [backbone.name for backbone in BACKBONES])
def test_every_network_has_the_layers_that_deep_supervision_looks_at(name):
    paths = dict(build_network(NetworkConfig(name), 2, 32).named_modules())

    assert set(find_backbone(name).supervised_layers) <= set(paths)


@pytest.mark.parametrize("name", SMALL)
def test_every_network_maps_images_to_logits_and_has_rules_at_its_supervised_layers(name):
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name), 3, 32).eval()
    layers = find_backbone(name).supervised_layers

    logits, relevance = LRP(network, layers=layers)(torch.rand(2, 1, 32, 32))

    assert logits.shape == (2, 3)
    assert relevance.image.shape == (2, 3, 1, 32, 32)
    assert set(relevance.layers) == set(layers)
    assert all(torch.isfinite(found).all() for found in relevance.layers.values())


def test_weights_come_from_the_seed():
    torch.manual_seed(3)
    first = build_network(NetworkConfig("densenet_tiny"), 2, 32).state_dict()
    torch.manual_seed(3)
    same = build_network(NetworkConfig("densenet_tiny"), 2, 32).state_dict()
    other = build_network(NetworkConfig("densenet_tiny"), 2, 32).state_dict()

    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["features.conv0.weight"], other["features.conv0.weight"])


def test_dropout_is_put_into_a_densenet():
    network = build_network(NetworkConfig("densenet_tiny", dropout=0.25), 2, 32)

    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout2d)} == {0.25}


def test_no_activation_of_a_densenet_overwrites_its_input():
    network = build_network(NetworkConfig("densenet_tiny"), 2, 32)

    assert not any(m.inplace for m in network.modules() if isinstance(m, nn.ReLU))


def test_dropout_asked_of_a_network_without_is_reported():
    with pytest.raises(InputError, match=r"network.dropout is 0.2, but resnet18 has no dropout: set it to 0"):
        build_network(NetworkConfig("resnet18", dropout=0.2), 2, 32)


@pytest.mark.parametrize("lookup", [find_backbone, lambda name: build_network(NetworkConfig(name), 2, 32)])
def test_an_unknown_network_is_reported_with_the_networks_there_are(lookup):
    with pytest.raises(InputError, match=r"network.name is 'vgg16'; known: densenet121.*resnet50"):
        lookup("vgg16")


@pytest.mark.parametrize("name", [backbone.name for backbone in BACKBONES])
def test_running_statistics_follow_a_training_of_a_few_hundred_steps(name):
    """At a momentum of 0.01 they are a third of those of the first step still after 100 steps."""
    network = build_network(NetworkConfig(name), 2, 64)

    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    assert all(norm.momentum == 0.1 for norm in norms if norm.track_running_stats)


@pytest.mark.parametrize("name", [backbone.name for backbone in BACKBONES])
def test_a_network_begins_near_equal_probabilities(name):
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name), 2, 64).train()

    logits = network(torch.rand(8, 1, 64, 64))
    loss = nn.functional.cross_entropy(logits if torch.is_tensor(logits) else logits[0], torch.arange(8) % 2)

    assert float(loss.detach()) < 1.5  # ln 2 for equal ones
