"""Grad-CAM: by hand, against loops, and where its layer is found."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import (
    NetworkConfig,
    activation_map,
    build_network,
    find_backbone,
    grad_cam,
    logits_and_features,
)


class TwoMaps(nn.Module):
    """Feature maps x and -x + 1 of a picture of 2 x 2, each summed with a weight of its own for each class."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1)
        self.maps.weight.data = torch.tensor([[[[1.0]]], [[[-1.0]]]])
        self.maps.bias.data = torch.tensor([0.0, 1.0])
        self.weights = torch.tensor(weights)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps(images).sum((2, 3)) @ self.weights.T


PICTURE = torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]])


def test_a_map_computed_by_hand() -> None:
    """Class 0: 3 x - (1 - x) = 4 x - 1, cut at 0. Class 1: -x + 2 (1 - x) = 2 - 3 x. The logits are sums of both."""
    logits, maps = grad_cam(TwoMaps([[3.0, -1.0], [-1.0, 2.0]]), "maps", PICTURE)

    torch.testing.assert_close(maps[0, 0], torch.tensor([[0.0, 0.0], [1.0, 3.0]]))
    torch.testing.assert_close(maps[0, 1], torch.tensor([[2.0, 1.25], [0.5, 0.0]]))
    torch.testing.assert_close(logits, torch.tensor([[4 * 1.75 - 4, 8 - 3 * 1.75]]))


def test_maps_are_enlarged_between_the_centres_of_the_features_pixels() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), TwoMaps([[1.0, 0.0]]))

    maps = grad_cam(network, "maps", PICTURE.repeat_interleave(2, -1).repeat_interleave(2, -2))[1]

    torch.testing.assert_close(maps[0, 0, 0], torch.tensor([0.0, 0.0625, 0.1875, 0.25]))


def test_no_graph_and_no_gradient_is_left_behind() -> None:
    network = TwoMaps([[3.0, -1.0]])

    with torch.no_grad():
        logits, maps = grad_cam(network, "maps", PICTURE)

    assert not logits.requires_grad
    assert not maps.requires_grad
    assert all(p.grad is None for p in network.parameters())
    assert not network.maps._forward_hooks


def test_the_weights_of_the_features_are_constants() -> None:
    """d map / d x is 4 where the map is above 0; through the weights it would be more."""
    network = TwoMaps([[3.0, -1.0]])
    logits, features = logits_and_features(network, "maps", PICTURE.clone().requires_grad_())

    found = activation_map(logits.square().sum(), features)

    weights = 2 * logits.detach()[0] * torch.tensor([3.0, -1.0])
    expected = torch.autograd.grad(
        (weights.view(1, 2, 1, 1) * features).sum(1).relu().sum(), features, retain_graph=True
    )
    assert torch.equal(torch.autograd.grad(found.sum(), features)[0], expected[0])


@pytest.mark.parametrize(("name", "final"), [("densenet_tiny", "class_layers.out"), ("resnet18", "fc")])
def test_of_a_network_that_averages_its_features_it_is_the_class_activation_map(name: str, final: str) -> None:
    """With global average pooling, the mean gradient is the last layer's weight over the number of places."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name), 3, 32).eval()
    images = torch.rand(2, 1, 32, 32)
    layer = find_backbone(name).supervised_layers[-1]

    logits, features = logits_and_features(network, layer, images)
    found = activation_map(logits[:, 1].sum(), features)

    weight = network.get_submodule(final).weight[1].detach().double().numpy()
    maps = features.detach().double().numpy()
    loops = [[sum(weight[c] * maps[b, c, i] for c in range(len(weight))) for i in range(maps.shape[2])] for b in (0, 1)]
    expected = np.maximum(np.array(loops), 0) / (maps.shape[2] * maps.shape[3])
    np.testing.assert_allclose(found[:, 0].detach().numpy(), expected, atol=1e-6)
    pooled = torch.from_numpy(maps).float().mean((2, 3))
    torch.testing.assert_close(network.get_submodule(final)(pooled), logits)


def test_the_layer_is_found_inside_of_a_wrapper() -> None:
    network = nn.Sequential(nn.Identity(), TwoMaps([[3.0, -1.0]]))

    torch.testing.assert_close(grad_cam(network, "maps", PICTURE)[1], grad_cam(network[1], "maps", PICTURE)[1])


@pytest.mark.parametrize(
    ("layer", "message"), [("nothing", "0 layers 'nothing'"), ("conv", "2 layers 'conv'"), ("flat", "no feature maps")]
)
def test_a_layer_that_is_none_is_an_error(layer: str, message: str) -> None:
    parts = {
        "flat": nn.Flatten(),
        "one": nn.Sequential(OrderedDict(conv=nn.Identity())),
        "two": nn.Sequential(OrderedDict(conv=nn.Identity())),
    }
    network = nn.Sequential(OrderedDict(parts))

    with pytest.raises(InputError, match=message):
        grad_cam(network, layer, PICTURE)
