"""The U-Net that classifies: what each of its two outputs reads, and MONAI's network as the oracle of the mask."""

import pytest
import torch
from monai.networks.nets import BasicUNet

from cxr_isnet.networks import MultitaskUNet, NetworkConfig, build_network, find_backbone
from cxr_isnet.relevance import LRP, EpsilonRules

FEATURES = (4, 4, 8, 8, 16, 4)
IMAGES = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> MultitaskUNet:
    torch.manual_seed(0)
    return MultitaskUNet(3, FEATURES).eval()


def test_the_mask_is_that_of_monais_unet(network: MultitaskUNet) -> None:
    plain = BasicUNet(2, 1, 1, FEATURES, act="relu", norm="batch", bias=False).eval()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("classifier.")})

    logits, mask = network.logits_and_mask(IMAGES)

    assert mask.shape == (2, 1, 32, 48)
    assert torch.equal(mask, plain(IMAGES))
    assert torch.equal(logits, network(IMAGES))


def test_the_class_is_read_from_the_mean_of_the_bottleneck_and_not_from_the_decoder(network: MultitaskUNet) -> None:
    before = network(IMAGES)
    bottleneck = network.conv_0(IMAGES)
    for number in (1, 2, 3, 4):
        bottleneck = network.get_submodule(f"down_{number}")(bottleneck)
    linear = network.classifier[-1]

    torch.testing.assert_close(before, bottleneck.mean((2, 3)) @ linear.weight.T + linear.bias)
    for number in (1, 2, 3, 4):
        for parameter in network.get_submodule(f"upcat_{number}").parameters():
            torch.nn.init.normal_(parameter)
    assert torch.equal(network(IMAGES), before)


def test_relevance_goes_through_the_encoder_and_is_kept() -> None:
    """Without biases, and at a small epsilon, a map sums to its logit."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig("multitask_unet_tiny"), 2, 32).double().eval()
    torch.nn.init.zeros_(network.classifier[-1].bias)
    layers = find_backbone("multitask_unet_tiny").supervised_layers
    images = torch.rand(2, 1, 32, 32, dtype=torch.float64)

    logits, relevance = LRP(network, EpsilonRules(epsilon=0.0), image_range=None, layers=layers)(images)

    torch.testing.assert_close(relevance.image.sum((2, 3, 4)), logits)
    assert list(relevance.layers) == list(layers)


def test_the_large_one_is_the_u_net_of_the_paper() -> None:
    """64 to 1024 maps: 31 million weights."""
    network = build_network(NetworkConfig("multitask_unet"), 2, 32)

    assert network.down_4.convs.conv_1.conv.out_channels == 1024
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(31, abs=0.5)
