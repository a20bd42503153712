from pathlib import Path

import pytest
import torch

from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.manifests.checksums import file_digest
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter
from cxr_isnet.segmentation import Segmenter
from cxr_isnet.segmentation.mask_prediction import agreement
from cxr_isnet.segmentation.segmenter import SHIFT


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
    assert torch.equal(first.augmented_probabilities(images), second.augmented_probabilities(images))


def test_the_augmented_copies_are_the_image_itself_mirrored_and_shifted_both_ways(bright):
    seen = []
    bright.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 1, 32, 32)

    bright.augmented_probabilities(image)

    places, by = torch.arange(32), 32 // SHIFT
    later, earlier = (places - by) % 32, (places + by) % 32
    shifted = [image[..., moved[:, None], moved] for moved in (later, earlier)]
    expected = [image, image[..., 31 - places], *shifted]
    assert len(seen) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))


def test_a_classifier_is_no_segmenter(trained):
    with pytest.raises(InputError, match=r"best\.pt: not a lung segmenter"):
        Segmenter.load(trained / "best.pt")


def test_the_augmented_maps_of_a_network_that_sees_each_pixel_alone_are_alike(bright):
    images = torch.rand(3, 1, 64, 64)

    maps = bright.augmented_probabilities(images)

    assert maps.shape == (3, 4, 64, 64)
    assert torch.equal(maps, maps[:, :1].expand_as(maps))
    assert agreement(maps[0]) == 1
