from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.imaging import read_image
from cxr_isnet.segmentation.reading import read_batches

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


def test_a_file_that_cannot_be_read_is_told_and_stops_nothing(files):
    (third,) = [
        x
        for batch in read_batches(files, CONFIG, batch_size=5, workers=0, description="read")
        for x in batch
        if x.problem
    ]

    assert third.path == files[2]
    assert files[2] in third.problem
    assert third.image.shape == (1, 32, 32)
