import numpy as np
import pytest
from PIL import Image

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_mask

LUNGS = np.array([[0, 1, 1], [0, 0, 1]], dtype=np.uint8)


@pytest.mark.parametrize(
    "stored",
    [
        LUNGS * 255,
        np.where(LUNGS, 128, 127).astype(np.uint8),
        LUNGS,
        LUNGS.astype(bool),
        LUNGS.astype(np.uint16) * 65535,
        np.stack([LUNGS * 255] * 3, axis=-1),
    ],
    ids=["0 and 255", "about the threshold", "0 and 1", "1 bit", "16 bits", "colour"],
)
def test_foreground(tmp_path, stored):
    Image.fromarray(stored).save(tmp_path / "mask.png")

    mask = read_mask(tmp_path / "mask.png")

    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LUNGS)


def test_unreadable_mask(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"nothing")

    with pytest.raises(InputError, match=r"mask\.png"):
        read_mask(tmp_path / "mask.png")
