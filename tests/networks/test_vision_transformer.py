"""The vision transformer: shapes, positions, and attention rollout against loops and by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, VisionTransformer, build_network

IMAGES = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def tiny(classes: int = 2) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(classes, 32, patch=8, width=12, depth=3, heads=3).eval()


def rollout(network: VisionTransformer, images: torch.Tensor) -> np.ndarray:
    """Abnar & Zuidema's equation 1 in loops, of the attention that MONAI's own blocks keep when shown to."""
    for block in network.blocks:
        block.attn.save_attn = True
    network(images)
    saved = [block.attn.att_mat.double().numpy() for block in network.blocks]
    maps = []
    for image in range(len(images)):
        flow = np.eye(17)
        for weights in saved:
            mean = sum(weights[image][head] for head in range(3)) / 3
            flow = (0.5 * mean + 0.5 * np.eye(17)) @ flow
        maps.append(flow[0, 1:].reshape(4, 4))
    return np.stack(maps)


def test_attention_is_the_rollout_of_what_the_blocks_attend_by() -> None:
    network = tiny()
    torch.nn.init.normal_(network.cls_token)

    logits, maps = network.attention(IMAGES)

    expected = torch.from_numpy(rollout(network, IMAGES))[:, None].float()
    resized = F.interpolate(expected, size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps, resized.expand(-1, 2, -1, -1))
    torch.testing.assert_close(logits, network(IMAGES))


def test_uniform_attention_gives_the_rollout_that_is_computed_by_hand() -> None:
    """One block, queries and keys zero: every token attends to 1/17 of all; half of it is mixed with the identity."""
    network = VisionTransformer(2, 32, patch=8, width=12, depth=1, heads=3).eval()
    torch.nn.init.zeros_(network.blocks[0].attn.qkv.weight)
    torch.nn.init.zeros_(network.blocks[0].attn.qkv.bias)

    maps = network.attention(IMAGES)[1]

    torch.testing.assert_close(maps, torch.full((3, 2, 32, 32), 0.5 / 17))


def test_the_map_lies_where_the_patch_is() -> None:
    network = tiny()
    images = torch.zeros(1, 1, 32, 32)
    images[..., 8:16, 24:32] = 1
    block = network.blocks[0]
    torch.nn.init.zeros_(network.patch_embedding.position_embeddings)
    torch.nn.init.zeros_(network.patch_embedding.patch_embeddings.bias)
    with torch.no_grad():  # the class token asks for what only the bright patch's key has
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
        block.attn.qkv.bias[:12] = 5
        bright = block.norm1(network.patch_embedding(images))[0, 7]
        block.attn.qkv.weight[12:24] = bright / bright.norm()

    maps = network.attention(images)[1]

    row, column = divmod(int(maps[0, 0].argmax()), 32)
    assert (8 <= row < 16, 24 <= column < 32) == (True, True)


def test_every_weight_gets_a_gradient() -> None:
    network = tiny().train()

    network(IMAGES).square().sum().backward()

    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_logits_are_not_squashed() -> None:
    network = tiny()
    torch.nn.init.constant_(network.classification_head.bias, 7.0)

    assert network(IMAGES).min() > 1


def test_the_place_of_a_patch_matters() -> None:
    network = tiny()

    assert not torch.allclose(network(IMAGES), network(IMAGES.roll(8, -1)), atol=1e-5)


def test_vit_b16_has_the_weights_of_the_paper() -> None:
    """86,567,656 with three channels, 1000 classes and a position for the class token, as published for 224 px."""
    network = build_network(NetworkConfig("vit_b16"), 2, 224)

    weights = sum(p.numel() for p in network.parameters())

    assert weights == 86_567_656 - 2 * 768 * 256 - 998 * 769 - 768


@pytest.mark.parametrize(("name", "size"), [("vit_b16", 40), ("vit_tiny", 36)])
def test_images_that_are_no_whole_number_of_patches_are_refused(name: str, size: int) -> None:
    with pytest.raises(InputError, match=rf"image\.size is {size}; network '{name}'.*a multiple of"):
        build_network(NetworkConfig(name), 2, size)
