"""What each built-in network is made of: its settings, and the layers that deep supervision looks at."""

import pytest
import torch
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import BACKBONES, Backbone, NetworkConfig, build_network, find_backbone, last_layer, penultimate
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter

CLASSES = 5


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """Every built-in network by name, for five classes and without dropout."""
    return {backbone.name: build_network(NetworkConfig(backbone.name), CLASSES, 32) for backbone in BACKBONES}


def weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_of_a_resnet_the_last_block_of_each_stage_is_supervised(name, networks):
    stages = [(f"layer{number}", networks[name].get_submodule(f"layer{number}")) for number in (1, 2, 3, 4)]

    assert find_backbone(name).supervised_layers == tuple(f"{stage}.{len(blocks) - 1}.act" for stage, blocks in stages)


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 2), ("resnet50", 2), ("resnet18_stride1", 1)])
def test_the_first_convolution_of_a_resnet_has_the_usual_stride(name, stride, networks):
    """He et al. 2016, table 1: 7 x 7, 64, stride 2."""
    assert networks[name].conv1.stride == (stride, stride)


@pytest.mark.parametrize("name", ["densenet121", "densenet_small", "densenet_tiny"])
def test_of_a_densenet_the_relu_of_each_transition_and_that_of_the_final_features_are_supervised(name, networks):
    relus = [path for path, module in networks[name].named_modules() if isinstance(module, nn.ReLU)]
    transitions = [path for path in relus if path.startswith("features.transition")]

    assert find_backbone(name).supervised_layers == (*transitions, "class_layers.relu")
    assert len(transitions) == len([b for b, _ in networks[name].features.named_children() if "denseblock" in b]) - 1


@pytest.mark.parametrize("name", [backbone.name for backbone in BACKBONES if backbone.has_dropout])
def test_every_network_with_dropout_drops_as_often_as_asked(name, networks):
    dropping = build_network(NetworkConfig(name, dropout=0.25), 2, 32)
    layers = [path for path, module in dropping.named_modules() if path.endswith("denselayer1.layers")]

    assert {module.p for module in dropping.modules() if isinstance(module, nn.Dropout2d)} == {0.25}
    assert sum(isinstance(module, nn.Dropout2d) for module in dropping.modules()) >= len(layers) > 0
    assert not any(isinstance(module, nn.Dropout2d) for module in networks[name].modules())


DENSENETS = {"densenet121", "densenet_small", "densenet_tiny"}


def test_densenets_have_dropout_and_other_networks_have_none():
    assert {backbone.name for backbone in BACKBONES if backbone.has_dropout} == DENSENETS


def test_networks_have_rules_but_those_with_attention_maps_of_their_own():
    assert {b.name for b in BACKBONES if b.has_relevance_rules} == {
        *DENSENETS,
        "resnet18",
        "resnet50",
        "resnet18_stride1",
        "resnet50_stride1",
        "efficientnet_b0",
        "vit_b16",
        "vit_tiny",
        "multitask_unet",
        "multitask_unet_tiny",
    }


@pytest.mark.parametrize("name", [backbone.name for backbone in BACKBONES])
def test_every_network_is_of_the_class_that_its_backbone_says(name, networks):
    assert isinstance(networks[name], find_backbone(name).network_class)


@pytest.mark.parametrize("name", [backbone.name for backbone in BACKBONES])
def test_every_network_has_an_output_for_each_class(name, networks):
    assert last_layer(networks[name])[1].out_features == CLASSES


@pytest.mark.parametrize("name", ["densenet121", "densenet_small", "densenet_tiny"])
def test_no_activation_of_any_densenet_overwrites_its_input(name, networks):
    assert not any(module.inplace for module in networks[name].modules() if isinstance(module, nn.ReLU))


def test_densenet121_is_that_of_the_paper(networks):
    """torchvision's has 7,978,856 weights; here with one channel in place of three and 5 classes in place of 1000."""
    assert weights(networks["densenet121"]) == 7_978_856 - 2 * 64 * 49 - 995 * 1025


@pytest.mark.parametrize(("name", "millions"), [("densenet_small", 0.7), ("densenet_tiny", 0.09)])
def test_the_small_densenets_are_as_small_as_they_say(name, millions, networks):
    assert weights(networks[name]) / 1e6 == pytest.approx(millions, rel=0.06)


def test_images_that_a_network_does_not_take_are_refused_when_it_is_built(monkeypatch):
    picky = Backbone("picky", lambda classes, size, dropout: nn.Identity(), smallest_size=64, size_multiple=16)
    monkeypatch.setattr("cxr_isnet.networks.backbones.BACKBONES", (picky,))

    with pytest.raises(
        InputError, match=r"image\.size is 48; network 'picky' takes 64 pixels or more, a multiple of 16"
    ):
        build_network(NetworkConfig("picky"), 2, 48)
    with pytest.raises(InputError, match=r"image\.size is 72"):
        build_network(NetworkConfig("picky"), 2, 72)
    assert isinstance(build_network(NetworkConfig("picky"), 2, 80), nn.Identity)


def test_features_are_what_the_last_of_several_linear_layers_reads_and_nothing_is_left_behind():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    images = torch.rand(5, 1, 2, 2)

    found = penultimate(network, images)

    assert last_layer(network) == ("3", network[3])
    assert torch.equal(found, network[:3](images))
    assert not found.requires_grad
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_segmenter_has_the_configured_channels_and_dropout():
    network = build_segmenter(SegmenterConfig((4, 6, 10), dropout=0.3))

    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {0.3}
    assert {4, 6, 10} <= {module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)}
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
