import pytest
import torch

from cxr_isnet.errors import InputError
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 8)])
def test_an_image_becomes_a_logit_per_pixel(channels):
    config = SegmenterConfig(channels)

    logits = build_segmenter(config).eval()(torch.rand(2, 1, 3 * config.stride, 2 * config.stride))

    assert logits.shape == (2, 1, 3 * config.stride, 2 * config.stride)
    assert logits.min() < 0 or logits.max() > 1


def test_the_stride_halves_once_per_level_below_the_first():
    assert SegmenterConfig((4, 8, 8, 8)).stride == 8


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"channels": (4,)}, "channels"), ({"channels": (4, 0)}, "channels"), ({"dropout": 1.0}, "dropout")],
)
def test_settings_that_make_no_network_are_refused(settings, named):
    with pytest.raises(InputError, match=named):
        SegmenterConfig(**settings)
