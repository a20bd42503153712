import io

import numpy as np
import pytest
from PIL import Image

from cxr_isnet.checks.records import image_record
from cxr_isnet.checks.similarity import SAME_PICTURE, agreement, averaging, perceptual_hash
from tests.checks.conftest import save


def slow_mean(line: np.ndarray, start: float, end: float) -> float:
    """Mean of a line of pixels from one place to another, by summing up ten thousand points."""
    points = start + (end - start) * (np.arange(10_000) + 0.5) / 10_000
    return float(line[np.floor(points).astype(int)].mean())


@pytest.mark.parametrize(("start", "length"), [(0.0, 1.0), (0.13, 0.61), (0.5, 0.5)])
def test_averaging_is_the_mean_over_equal_cells(start, length):
    line = np.random.default_rng(0).random(40)
    edges = 40 * (start + length * np.arange(7) / 6)

    means = averaging(start, length, 6, 40) @ line

    np.testing.assert_allclose(means, [slow_mean(line, *edges[cell : cell + 2]) for cell in range(6)], atol=2e-3)


def changed(chest: np.ndarray) -> np.ndarray:
    """The same X-ray as another department would export it: smaller, darker, JPEG."""
    small = Image.fromarray(np.rint(255 * chest**1.3 * 0.9).astype(np.uint8)).resize((120, 120))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=60)
    return np.asarray(Image.open(buffer).resize((128, 128)), dtype=np.float64) / 255


def shrunk(chest: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(chest.astype(np.float32)).resize((128, 128), Image.Resampling.BOX))


def test_hash_survives_another_export_and_tells_patients_apart(chests):
    hashes = [perceptual_hash(shrunk(chest)) for chest in chests]
    distance = [[(one ^ other).bit_count() for other in hashes] for one in hashes]

    again = [(one ^ perceptual_hash(changed(chest))).bit_count() for one, chest in zip(hashes, chests, strict=True)]

    assert max(again) <= 10
    assert np.median(np.array(distance)[~np.eye(len(hashes), dtype=bool)]) > 10


def test_agreement_is_high_for_one_picture_and_low_for_two(chests):
    pictures = [shrunk(chest) for chest in chests]

    same = [agreement(picture, changed(chest)) for picture, chest in zip(pictures, chests, strict=True)]
    others = [agreement(one, other) for n, one in enumerate(pictures) for other in pictures[:n]]

    assert min(same) > SAME_PICTURE > max(others)


def test_agreement_with_a_window_is_that_of_the_cut_out_part(chests):
    picture = shrunk(chests[0])
    part = np.repeat(np.repeat(picture[32:96, 16:80], 2, axis=0), 2, axis=1)

    assert agreement(part, picture, (16 / 128, 32 / 128, 0.5, 0.5)) > 0.98


def test_a_flat_picture_agrees_with_nothing(chests):
    assert agreement(np.zeros((128, 128)), shrunk(chests[0])) == 0


def test_hash_of_a_file_does_not_depend_on_its_resolution(chests, tmp_path):
    small = save(tmp_path / "small.png", shrunk(chests[0]))
    large = save(tmp_path / "large.png", chests[0])

    assert (image_record(str(small)).hash ^ image_record(str(large)).hash).bit_count() <= 4
