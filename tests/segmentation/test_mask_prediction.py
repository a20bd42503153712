from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.imaging import read_image
from cxr_isnet.segmentation import QualityLimits, predict_masks
from cxr_isnet.segmentation.mask_prediction import agreement, postprocess, read_batches, resize_and_threshold

from .conftest import two_lungs


def flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Components by flood fill, largest first: slow and without a library."""
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    found = []
    while left:
        queue, component = [left.pop()], set()
        while queue:
            row, column = queue.pop()
            component.add((row, column))
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if near in left:
                    left.remove(near)
                    queue.append(near)
        found.append(component)
    return sorted(found, key=len, reverse=True)


def outside(mask: np.ndarray) -> set[tuple[int, int]]:
    """Pixels that are reached from beyond the picture without crossing the mask."""
    around = np.pad(mask == 0, 1, constant_values=True)
    sea = next(component for component in flooded(around) if (0, 0) in component)
    return {(row - 1, column - 1) for row, column in sea}


@pytest.mark.parametrize("seed", range(4))
def test_it_keeps_the_two_largest_components_and_fills_their_holes(seed):
    raw = np.random.default_rng(seed).random((14, 17)) > 0.45
    components = flooded(raw)
    kept = np.zeros_like(raw)
    for row, column in components[0] | components[1]:
        kept[row, column] = True
    sea = outside(kept)
    expected = np.array([[(row, column) not in sea for column in range(17)] for row in range(14)])
    if len(components[1]) == len(components[2]):
        pytest.fail("the seed gives two candidates for the second place: choose another")

    cleaned = postprocess(raw)

    assert np.array_equal(cleaned.mask, expected)
    assert cleaned.fragments == pytest.approx(1 - kept.sum() / raw.sum())


def test_two_whole_lungs_come_out_as_they_are():
    cleaned = postprocess(two_lungs() == 1)

    assert np.array_equal(cleaned.mask, two_lungs())
    assert cleaned.fragments == 0


def test_nothing_comes_out_of_nothing():
    cleaned = postprocess(np.zeros((8, 8), bool))

    assert cleaned.mask.sum() == 0
    assert cleaned.fragments == 0


@pytest.mark.parametrize("shape", [(64, 64), (200, 100), (33, 47)])
def test_a_map_is_brought_to_the_image_s_size(shape):
    probability = np.zeros((64, 64), np.float32)
    probability[:, :32] = 1

    lungs = resize_and_threshold(probability, shape)

    assert lungs.shape == shape
    assert lungs[:, : shape[1] // 2 - 1].all()
    assert not lungs[:, shape[1] // 2 + 1 :].any()


def test_agreement_is_that_of_the_augmented_copy_that_differs_most():
    maps = torch.zeros(4, 10, 10)
    maps[:, :, :4] = 1
    maps[3] = 0
    maps[3, :5, :4] = 1

    assert agreement(maps) == pytest.approx(2 * 20 / (20 + 40))


def test_what_post_processing_drops_from_a_copy_does_not_count_against_it():
    maps = torch.from_numpy(two_lungs(40, 40).astype(np.float32)).repeat(4, 1, 1)
    maps[2, :4, :4] = 1

    assert agreement(maps) == 1


def test_a_network_for_which_the_place_matters_agrees_less_than_one_for_which_it_does_not(bright):
    class LeftIsLung(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, images):
            ramp = torch.linspace(1, -1, images.shape[-1]) * self.weight
            return ramp.expand_as(images)

    bright.network = LeftIsLung()

    assert agreement(bright.augmented_probabilities(torch.rand(1, 1, 64, 64))[0]) < 0.7


def test_lungs_are_predicted_at_the_size_of_each_image(bright):
    mask = two_lungs(64, 64)
    images = torch.from_numpy(mask.astype(np.float32))[None, None].expand(2, 1, 64, 64)

    same, larger = predict_masks(bright, images, [(64, 64), (128, 192)])

    assert np.array_equal(same.mask, mask)
    assert larger.mask.shape == (128, 192)
    assert larger.quality.area == pytest.approx(same.quality.area, rel=0.05)
    assert same.quality.quality_flags(QualityLimits()) == []


def test_a_mask_is_that_of_the_mean_map_post_processed_and_measured(bright, monkeypatch):
    lungs = torch.from_numpy(two_lungs(40, 40).astype(np.float32))
    speck = torch.zeros(40, 40)
    speck[:4, :4] = 1
    maps = torch.stack([torch.zeros(40, 40), *[torch.maximum(lungs, speck)] * 3])[None]
    monkeypatch.setattr(bright, "augmented_probabilities", lambda images: maps)

    (predicted,) = predict_masks(bright, torch.zeros(1, 1, 40, 40), [(40, 40)])

    assert np.array_equal(predicted.mask, two_lungs(40, 40))
    assert predicted.quality.fragments == pytest.approx(16 / (16 + two_lungs(40, 40).sum()))
    assert predicted.quality.agreement == 0
    assert predicted.quality.lungs == 2


CONFIG = ImageConfig(32)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Five pictures of growing height, the third of which is none."""
    generator = np.random.default_rng(0)
    for number in range(5):
        pixels = generator.integers(0, 256, (40 + number, 50), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    return [str(tmp_path / f"{number}.png") for number in range(5)]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_files_come_in_order_with_their_sizes_prepared_as_in_training(files, workers):
    batches = list(read_batches(files, CONFIG, batch_size=2, workers=workers, description="read"))

    assert [len(batch) for batch in batches] == [2, 2, 1]
    read = [xray for batch in batches for xray in batch]
    assert [xray.path for xray in read] == files
    for number in (0, 1, 3, 4):
        assert read[number].shape == (40 + number, 50)
        assert torch.equal(read[number].image, prepare_image(read_image(files[number]), CONFIG))


def test_a_file_that_cannot_be_read_has_a_problem_and_stops_nothing(files):
    (third,) = [
        x
        for batch in read_batches(files, CONFIG, batch_size=5, workers=0, description="read")
        for x in batch
        if x.problem
    ]

    assert third.path == files[2]
    assert files[2] in third.problem
    assert third.image.shape == (1, 32, 32)
