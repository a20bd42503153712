import numpy as np
import pytest
from PIL import Image

from cxr_isnet.imaging import read_mask
from cxr_isnet.segmentation.finding import PredictedMask
from cxr_isnet.segmentation.mask_store import MaskStore
from cxr_isnet.segmentation.quality import MaskQuality

from .conftest import MODEL, two_lungs

IMAGE = "a" * 64
LUNGS = PredictedMask(two_lungs(), MaskQuality(0.31, 2, 0.87, 0.01, 0.02, 0.953))


@pytest.fixture
def store(tmp_path) -> MaskStore:
    return MaskStore(tmp_path, MODEL)


def test_a_kept_mask_comes_back_with_what_was_measured_on_it(store):
    store.write(IMAGE, LUNGS)

    assert store.quality(IMAGE) == LUNGS.quality
    assert np.array_equal(read_mask(store.path(IMAGE)), LUNGS.mask)
    assert set(np.unique(np.asarray(Image.open(store.path(IMAGE))))) == {0, 255}


def test_a_mask_that_is_not_there_has_no_quality(store):
    assert store.quality(IMAGE) is None


def test_a_mask_of_another_segmenter_counts_as_missing(store, tmp_path):
    store.write(IMAGE, LUNGS)

    assert MaskStore(tmp_path, "f" * 64).quality(IMAGE) is None


@pytest.mark.parametrize("content", [b"", b"<html>", "cut", "bare"])
def test_a_damaged_or_foreign_file_counts_as_missing(store, content):
    store.write(IMAGE, LUNGS)
    path = store.path(IMAGE)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:60])
    elif content == "bare":
        Image.fromarray(two_lungs()).save(path)
    else:
        path.write_bytes(content)

    assert store.quality(IMAGE) is None


def test_nothing_half_written_is_left(store, tmp_path, monkeypatch):
    def fails(self, target, **options):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fails)

    with pytest.raises(OSError, match="disk full"):
        store.write(IMAGE, LUNGS)

    assert list(tmp_path.iterdir()) == []
