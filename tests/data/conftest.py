"""Small files for the tests of `cxr_isnet.data`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WritePicture = Callable[..., str]


@pytest.fixture
def write_picture(tmp_path: Path) -> WritePicture:
    """Writes an array of 8 bits as PNG and gives its path."""

    def write(name: str, pixels: np.ndarray) -> str:
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
        return str(tmp_path / name)

    return write
