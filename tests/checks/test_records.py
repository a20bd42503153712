import hashlib

import numpy as np
import pytest
from PIL import Image

from cxr_isnet.checks.records import THUMBNAIL, image_record, mask_record
from tests.checks.conftest import SIDE, save


def test_an_image_is_known_by_digest_shape_and_thumbnail(chests, tmp_path):
    path = save(tmp_path / "chest.png", chests[0][: SIDE // 2])

    record = image_record(str(path))

    assert record.problem == ""
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.shape == (SIDE // 2, SIDE)
    assert record.thumbnail.shape == (THUMBNAIL, THUMBNAIL)
    assert (record.thumbnail.min(), record.thumbnail.max()) == (0, 255)
    assert not record.blank


def test_a_dark_image_has_the_thumbnail_of_a_bright_one(chests, tmp_path):
    bright = image_record(str(save(tmp_path / "bright.png", chests[0])))
    dark = image_record(str(save(tmp_path / "dark.png", 0.1 + 0.4 * chests[0])))

    difference = bright.thumbnail.astype(int) - dark.thumbnail.astype(int)
    assert np.abs(difference).mean() < 2


def test_one_grey_value_is_blank(tmp_path):
    assert image_record(str(save(tmp_path / "grey.png", np.full((80, 80), 0.3)))).blank


@pytest.mark.parametrize("content", [None, b"<html>not found</html>", b""])
def test_the_problem_of_an_image_is_in_its_record(tmp_path, content):
    path = tmp_path / "chest.png"
    if content is not None:
        path.write_bytes(content)

    record = image_record(str(path))

    assert "chest.png" in record.problem
    assert record.thumbnail is None
    assert (record.sha256 == "") == (content is None)


def test_a_mask_is_known_by_its_parts(tmp_path):
    lungs = np.zeros((100, 100))
    lungs[20:60, 10:40] = 1
    lungs[30:100, 60:80] = 1
    lungs[5:6, 5:6] = 1  # a speck

    record = mask_record(str(save(tmp_path / "mask.png", lungs)))

    assert record.area == pytest.approx(0.2601)
    assert record.parts == pytest.approx((0.14, 0.12))
    assert record.borders == ("bottom",)
    assert record.shape == (100, 100)


def test_an_empty_mask_has_no_parts(tmp_path):
    record = mask_record(str(save(tmp_path / "mask.png", np.zeros((50, 50)))))

    assert (record.area, record.parts, record.problem) == (0, (), "")


def test_the_problem_of_a_mask_is_in_its_record(tmp_path):
    Image.new("F", (9, 9)).save(tmp_path / "float.tiff")

    assert "no such file" in mask_record(str(tmp_path / "gone.png")).problem
    assert "float.tiff" in mask_record(str(tmp_path / "float.tiff")).problem
