"""68 common classification networks of torchvision, timm and MONAI, by the names that their libraries have for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tests import third_party

CLASSES = 3
CHANNELS = 3

_TORCHVISION = {
    **dict.fromkeys(
        """alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s mnasnet0_5 mobilenet_v2
        mobilenet_v3_small regnet_y_400mf resnet18 resnet50 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t
        vgg11""".split(),  # noqa: SIM905
        64,
    ),
    "googlenet": 64,
    "inception_v3": 299,
    "maxvit_t": 224,
    "vit_b_16": 32,
}
_TIMM = {
    **dict.fromkeys(
        """convnext_atto convnextv2_atto cspresnet50 densenet121 dpn68 ecaresnet26t edgenext_xx_small efficientnet_b0
        fastvit_t8 ghostnet_100 hrnet_w18_small lcnet_050 mobilenetv3_small_050 nfnet_l0 poolformer_s12 pvt_v2_b0
        regnetx_002 regnety_002 repvgg_a0 resnest14d resnet26d seresnet50 tf_efficientnet_b0""".split(),  # noqa: SIM905
        64,
    ),
    **dict.fromkeys(
        """beit_base_patch16_224 cait_xxs24_224 deit_tiny_patch16_224 mixer_s32_224 swin_tiny_patch4_window7_224
        swinv2_tiny_window8_256 vit_tiny_patch16_224 xcit_nano_12_p16_224""".split(),  # noqa: SIM905
        -64,
    ),
    "eva02_tiny_patch14_224": -56,
    "inception_v3": 96,
    "levit_128s": 224,
    "mobilevit_xxs": 64,
    "xception41": 64,
}
"""Rows and columns of the images; negative where the network is made for a size."""


class Pooled(nn.Module):
    """A network that segments, as a classifier: the mean of each of its maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).mean((2, 3))


def _monai() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    from monai.networks import nets

    image: dict[str, Any] = {"spatial_dims": 2, "in_channels": CHANNELS}
    seg = {**image, "out_channels": CLASSES}
    vit = dict(in_channels=CHANNELS, img_size=32, patch_size=16, spatial_dims=2, classification=True)  # noqa: C408
    vit |= dict(hidden_size=48, mlp_dim=96, num_layers=2, num_heads=3, post_activation="none")  # noqa: C408
    residual = dict(spatial_dims=2, n_input_channels=CHANNELS, num_classes=CLASSES)  # noqa: C408
    levels = dict(channels=(4, 8, 16), strides=(2, 2))  # noqa: C408
    return {
        "AttentionUnet": (lambda: Pooled(nets.AttentionUnet(**seg, **levels)), 32),
        "BasicUNet": (lambda: Pooled(nets.BasicUNet(**seg, features=(4, 4, 8, 8, 16, 4))), 32),
        "Classifier": (lambda: nets.Classifier((CHANNELS, 32, 32), CLASSES, (4, 8), (2, 2)), 32),
        "DenseNet121": (lambda: nets.DenseNet121(**seg), 64),
        "EfficientNetBN": (
            lambda: nets.EfficientNetBN("efficientnet-b0", False, **image, num_classes=CLASSES),
            64,
        ),
        "HighResNet": (lambda: Pooled(nets.HighResNet(**seg)), 32),
        "SEResNet50": (lambda: nets.SEResNet50(**image, num_classes=CLASSES), 64),
        "SEResNext50": (lambda: nets.SEResNext50(**image, num_classes=CLASSES), 64),
        "UNet": (lambda: Pooled(nets.UNet(**seg, **levels, num_res_units=2)), 32),
        "ViT": (lambda: nets.ViT(**vit, num_classes=CLASSES), 32),
        "resnet18": (lambda: nets.resnet18(**residual, conv1_t_stride=2), 64),
        "resnet50": (lambda: nets.resnet50(**residual, conv1_t_stride=2), 64),
    }


NAMES = [
    *(f"torchvision:{name}" for name in sorted(_TORCHVISION)),
    *(f"timm:{name}" for name in sorted(_TIMM)),
    *(f"monai:{name}" for name in sorted(_monai())),
]


def build(name: str) -> tuple[nn.Module, int]:
    """The network with random weights, for images of three channels and three classes, and the size of its images."""
    library, _, own = name.partition(":")
    if library == "monai":
        make, size = _monai()[own]
        return make(), size
    if library == "torchvision":
        settings = {"image_size": _TORCHVISION[own]} if own == "vit_b_16" else {}
        models = third_party.torchvision().models
        if own in ("googlenet", "inception_v3"):
            settings["init_weights"] = False
        return models.get_model(own, weights=None, num_classes=CLASSES, **settings), _TORCHVISION[own]
    size = _TIMM[own]
    settings = {"img_size": -size} if size < 0 else {}
    return third_party.timm().create_model(own, num_classes=CLASSES, **settings), abs(size)
