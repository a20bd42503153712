import io

import numpy as np
from PIL import Image

from cxr_isnet.checks.records import image_record
from cxr_isnet.checks.similarity import SAME_IMAGE, detail_correlation, perceptual_hash
from tests.checks.conftest import save


def changed(chest: np.ndarray) -> np.ndarray:
    """The same X-ray as another department would export it: smaller, darker, JPEG."""
    small = Image.fromarray(np.rint(255 * chest**1.3 * 0.9).astype(np.uint8)).resize((120, 120))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=60)
    return np.asarray(Image.open(buffer).resize((128, 128)), dtype=np.float64) / 255


def shrunk(chest: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(chest.astype(np.float32)).resize((128, 128), Image.Resampling.BOX))


def test_hash_survives_another_export_and_distinguishes_patients(chests):
    hashes = [perceptual_hash(shrunk(chest)) for chest in chests]
    distance = [[(one ^ other).bit_count() for other in hashes] for one in hashes]

    again = [(one ^ perceptual_hash(changed(chest))).bit_count() for one, chest in zip(hashes, chests, strict=True)]

    assert max(again) <= 10
    assert np.median(np.array(distance)[~np.eye(len(hashes), dtype=bool)]) > 10


def test_correlation_of_detail_is_high_for_one_picture_and_low_for_two(chests):
    pictures = [shrunk(chest) for chest in chests]

    same = [detail_correlation(picture, changed(chest)) for picture, chest in zip(pictures, chests, strict=True)]
    others = [detail_correlation(one, other) for n, one in enumerate(pictures) for other in pictures[:n]]

    assert min(same) > SAME_IMAGE > max(others)


def test_correlation_with_a_window_is_that_of_the_cut_out_part(chests):
    picture = shrunk(chests[0])
    part = np.repeat(np.repeat(picture[32:96, 16:80], 2, axis=0), 2, axis=1)

    assert detail_correlation(part, picture, (16 / 128, 32 / 128, 0.5, 0.5)) > 0.98


def test_a_flat_image_correlates_with_nothing(chests):
    assert detail_correlation(np.zeros((128, 128)), shrunk(chests[0])) == 0


def test_hash_of_a_file_does_not_depend_on_its_resolution(chests, tmp_path):
    small = save(tmp_path / "small.png", shrunk(chests[0]))
    large = save(tmp_path / "large.png", chests[0])

    assert (image_record(str(small)).hash ^ image_record(str(large)).hash).bit_count() <= 4
