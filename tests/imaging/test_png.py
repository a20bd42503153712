from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_isnet.imaging import png, read_image
from cxr_isnet.imaging.png import encode_png


@pytest.fixture(params=["ISA-L", "zlib"])
def deflate(request, monkeypatch):
    """The library that deflates: the fast one, or the one that is always there."""
    if request.param == "zlib":
        monkeypatch.setattr(png, "isal_zlib", None)


@pytest.mark.usefixtures("deflate")
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (32, 5), (33, 5), (100, 70)])
def test_pillow_reads_back_what_was_written(shape):
    pixels = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)

    bands = (pixels[top : top + 32] for top in range(0, len(pixels), 32))

    with Image.open(BytesIO(b"".join(encode_png(pixels.shape, bands)))) as picture:
        picture.load()
        np.testing.assert_array_equal(np.asarray(picture).astype(np.uint16), pixels)


def test_read_image_gives_the_grey_values(tmp_path):
    pixels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    (tmp_path / "image.png").write_bytes(b"".join(encode_png(pixels.shape, [pixels])))

    np.testing.assert_allclose(read_image(tmp_path / "image.png"), pixels / 65535, atol=1e-7)
