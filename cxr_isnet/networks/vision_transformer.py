"""Vision transformer: MONAI's, returning logits alone, and telling by which patches it attends."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor, nn


class VisionTransformer(ViT):
    """Vision transformer (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929), with learned positions for one image size.

    Args:
        classes: Number of outputs.
        image_size: Rows and columns of the images, a multiple of `patch`.
        patch: Rows and columns of a patch.
        width: Size of a token.
        depth: Number of transformer blocks.
        heads: Attention heads of a block.
    """

    def __init__(self, classes: int, image_size: int, *, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__(
            in_channels=1,
            img_size=image_size,
            patch_size=patch,
            hidden_size=width,
            mlp_dim=4 * width,
            num_layers=depth,
            num_heads=heads,
            classification=True,
            num_classes=classes,
            spatial_dims=2,
            post_activation="none",
            qkv_bias=True,
        )
        self._grid = image_size // patch
        for block in self.blocks:
            block.norm_cross_attn = nn.Identity()  # MONAI's has weights that a block without cross-attention never uses

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, H, W) to logits (B, classes)."""
        logits: Tensor = super().forward(images)[0]
        return logits

    def attention(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Attention rollout: how much of each patch reaches the class token through all blocks.

        Each block's attention, averaged over its heads, is mixed half and half with the identity, which stands for the
        residual connection; the blocks are multiplied. It does not depend on the class, so that every class has the
        same map.

        Args:
            images: (B, 1, H, W).

        Returns:
            Logits (B, classes), and maps (B, classes, H, W) of 0 or more, bilinear between the patches' centres.

        Source:
            Abnar, Zuidema, Quantifying attention flow in transformers, ACL 2020 (arXiv 2005.00928), section 3.
        """
        patches = self.patch_embedding(images)
        tokens = torch.cat((self.cls_token.expand(len(patches), -1, -1), patches), 1)
        identity = torch.eye(tokens.shape[1], device=tokens.device)
        flow = identity.expand(len(patches), -1, -1)
        for block in self.blocks:
            flow = (0.5 * _attention_weights(block, tokens).mean(1) + 0.5 * identity) @ flow
            tokens = block(tokens)
        logits = self.classification_head(self.norm(tokens)[:, 0])
        map_ = flow[:, :1, 1:].unflatten(2, (self._grid, self._grid))
        resized = F.interpolate(map_, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits, resized.expand(-1, logits.shape[1], -1, -1)


def _attention_weights(block: Any, tokens: Tensor) -> Tensor:
    """Attention (B, heads, tokens, tokens) of a block of MONAI, float32; each row sums to 1.

    Computed again rather than kept by the block's `save_attn`, which would keep it in every step of a training.
    """
    attend = block.attn
    query, key, _ = attend.input_rearrange(attend.qkv(block.norm1(tokens))).float()
    weights: Tensor = (query @ key.transpose(-1, -2) * attend.scale).softmax(-1)
    return weights
