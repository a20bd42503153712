import numpy as np
import pytest
from monai.transforms import LoadImaged
from PIL import Image

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import CXRReader, read_image


@pytest.fixture
def picture(tmp_path):
    """An image that is wider than high."""
    path = tmp_path / "wide.png"
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(5, 12)).save(path)
    return path


@pytest.mark.parametrize("reader", [CXRReader, CXRReader()], ids=["class", "object"])
def test_load_imaged_gives_rows_by_columns(picture, reader):
    item = LoadImaged(keys="image", reader=reader, ensure_channel_first=True)({"image": str(picture)})

    assert item["image"].shape == (1, 5, 12)
    np.testing.assert_array_equal(item["image"][0].numpy(), read_image(picture))


def test_dicom(make_dicom):
    item = LoadImaged(keys="image", reader=CXRReader())({"image": make_dicom()})

    assert item["image"].shape == (8, 32)


def test_several_files_are_stacked(picture):
    item = LoadImaged(keys="image", reader=CXRReader(), ensure_channel_first=True)({"image": [picture, picture]})

    assert item["image"].shape == (2, 5, 12)


def test_bad_file_shows_as_input_error(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"bad")

    with pytest.raises(InputError, match=r"bad\.png"):
        LoadImaged(keys="image", reader=CXRReader())({"image": tmp_path / "bad.png"})
