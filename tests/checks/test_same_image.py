import numpy as np
import pytest
from PIL import Image, ImageDraw

from cxr_isnet.checks.local_features import LocalFeatures
from cxr_isnet.checks.records import image_record
from cxr_isnet.checks.same_image import SAME_IMAGE, detail_correlation, find_same_images
from tests.checks.conftest import SIDE, save, thumbnail

WHOLE = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.fixture(scope="module")
def pairs_among(chests, tmp_path_factory):
    """Finds the pairs among six phantoms and one more picture, number 6."""
    folder = tmp_path_factory.mktemp("pictures")
    known = [image_record(str(save(folder / f"{n}.png", chest))) for n, chest in enumerate(chests[:6])]

    def find(picture: np.ndarray):
        records = [*known, image_record(str(save(folder / "more.jpg", picture, quality=75)))]
        return find_same_images([one.local for one in records], [one.thumbnail for one in records])

    return find


def cut(chest: np.ndarray, left: float, top: float, width: float, height: float) -> np.ndarray:
    rows = slice(round(top * SIDE), round((top + height) * SIDE))
    return chest[rows, round(left * SIDE) : round((left + width) * SIDE)]


def turned(chest: np.ndarray, degrees: float) -> np.ndarray:
    return np.asarray(Image.fromarray(chest.astype(np.float32)).rotate(degrees, resample=Image.Resampling.BICUBIC))


def captioned(chest: np.ndarray) -> np.ndarray:
    """With a bar of 32% x 10% of the sides."""
    picture = Image.fromarray(np.rint(255 * chest).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((10, 5, 10 + 0.32 * SIDE, 5 + 0.1 * SIDE), fill=255)
    draw.text((14, 7), "48 hours", fill=0)
    return np.asarray(picture) / 255


@pytest.mark.parametrize(
    "box", [(0.1, 0.2, 0.7, 0.7), (0.0, 0.0, 0.9, 0.6), (0.35, 0.3, 0.55, 0.65), (0.03, 0.02, 0.95, 0.96)]
)
def test_a_crop_is_found_where_it_was_cut(pairs_among, chests, box):
    (found,) = pairs_among(0.1 + 0.8 * cut(chests[2], *box) ** 1.2)

    assert (found.part, found.whole, found.mirrored) == (6, 2, False)
    np.testing.assert_allclose(found.window, box, atol=0.02)


def test_the_window_of_a_mirrored_crop_is_that_of_the_whole_as_it_is(pairs_among, chests):
    (found,) = pairs_among(cut(chests[2], 0.05, 0.1, 0.7, 0.8)[:, ::-1])

    assert (found.part, found.whole, found.mirrored) == (6, 2, True)
    np.testing.assert_allclose(found.window, (0.05, 0.1, 0.7, 0.8), atol=0.02)


@pytest.mark.parametrize("degrees", [-8, 3, 8, 90, 180])
def test_a_turned_picture_is_found_with_its_angle(pairs_among, chests, degrees):
    (found,) = pairs_among(turned(chests[1], degrees))

    assert {found.part, found.whole} == {1, 6}
    assert found.degrees == pytest.approx(abs(degrees), abs=0.7)


def test_a_caption_hides_nothing(pairs_among, chests):
    (found,) = pairs_among(captioned(chests[3]))

    assert {found.part, found.whole} == {3, 6}
    assert found.correlation > SAME_IMAGE


def test_all_changes_at_once(pairs_among, chests):
    (found,) = pairs_among(captioned(turned(chests[4][:, ::-1], 5)) ** 1.3)

    assert {found.part, found.whole} == {4, 6}
    assert found.mirrored


def test_different_patients_are_no_pair(pairs_among, chests):
    assert pairs_among(chests[7]) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_images_without_features_are_compared_with_nothing(count):
    assert find_same_images([LocalFeatures.none()] * count, [np.zeros((128, 128), dtype=np.uint8)] * count) == []


def test_correlation_of_detail_with_a_window_is_that_of_the_cut_out_part(chests):
    picture = thumbnail(255 * chests[0])
    part = np.repeat(np.repeat(picture[32:96, 16:80], 2, axis=0), 2, axis=1)
    window = np.array([[0.5, 0.0, 16 / 128], [0.0, 0.5, 32 / 128]])

    assert detail_correlation(picture, picture, WHOLE) == pytest.approx(1)
    assert detail_correlation(part, picture, window) > 0.9
    assert detail_correlation(part, picture, window + np.array([[0, 0, 0.05], [0, 0, 0]])) < 0.7


def test_a_flat_image_correlates_with_nothing(chests):
    assert detail_correlation(np.zeros((128, 128)), thumbnail(255 * chests[0]), WHOLE) == 0
