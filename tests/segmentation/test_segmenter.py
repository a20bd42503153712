from pathlib import Path

import numpy as np
import pytest
import torch

from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.manifests.checksums import file_digest
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter
from cxr_isnet.segmentation import QualityLimits, Segmenter, predict_masks
from cxr_isnet.segmentation.finding import agreement

from .conftest import two_lungs


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config = SegmenterConfig((4, 8), dropout=0.5)
    Segmenter(build_segmenter(config), config, ImageConfig(32)).save(tmp_path / "best.pt")
    return tmp_path / "best.pt"


def test_a_segmenter_that_was_saved_is_the_same_when_it_is_read_and_answers_the_same_each_time(saved):
    images = torch.rand(2, 1, 32, 32)

    first, second = (Segmenter.load(saved) for _ in range(2))

    assert first.image == ImageConfig(32)
    assert first.config == SegmenterConfig((4, 8), dropout=0.5)
    assert first.digest == file_digest(saved)
    assert torch.equal(first.views(images), second.views(images))


def test_a_classifier_is_no_segmenter(trained):
    with pytest.raises(InputError, match=r"best\.pt: not a lung segmenter"):
        Segmenter.load(trained / "best.pt")


def test_the_views_of_a_network_that_sees_each_pixel_alone_lie_exactly_over_each_other(bright):
    images = torch.rand(3, 1, 64, 64)

    views = bright.views(images)

    assert views.shape == (3, 4, 64, 64)
    assert torch.equal(views, views[:, :1].expand_as(views))
    assert agreement(views[0]) == 1


def test_agreement_is_that_of_the_view_that_differs_most():
    views = torch.zeros(4, 10, 10)
    views[:, :, :4] = 1
    views[3] = 0
    views[3, :5, :4] = 1

    assert agreement(views) == pytest.approx(2 * 20 / (20 + 40))


def test_what_post_processing_drops_from_a_view_does_not_count_against_it():
    views = torch.from_numpy(two_lungs(40, 40).astype(np.float32)).repeat(4, 1, 1)
    views[2, :4, :4] = 1

    assert agreement(views) == 1


def test_a_network_for_which_the_place_matters_agrees_less_than_one_for_which_it_does_not(bright):
    class LeftIsLung(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, images):
            ramp = torch.linspace(1, -1, images.shape[-1]) * self.weight
            return ramp.expand_as(images)

    bright.network = LeftIsLung()

    assert agreement(bright.views(torch.rand(1, 1, 64, 64))[0]) < 0.7


def test_lungs_are_found_at_the_size_of_each_image(bright):
    mask = two_lungs(64, 64)
    images = torch.from_numpy(mask.astype(np.float32))[None, None].expand(2, 1, 64, 64)

    same, larger = predict_masks(bright, images, [(64, 64), (128, 192)])

    assert np.array_equal(same.mask, mask)
    assert larger.mask.shape == (128, 192)
    assert larger.quality.area == pytest.approx(same.quality.area, rel=0.05)
    assert same.quality.quality_flags(QualityLimits()) == []
