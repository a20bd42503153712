import numpy as np
import pytest
from PIL import Image

from cxr_isnet.manifests.source_parsing.combined_masks import NoMaskError, combined_mask
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError
from tests.manifests.sources.files import dicom, picture


def test_a_mask_that_fits_is_used_as_it_is(tmp_path):
    image, mask = picture(tmp_path / "a.png"), picture(tmp_path / "m.png")

    assert combined_mask(image, (mask,), tmp_path / "made" / "a.png") == mask
    assert not (tmp_path / "made").exists()


def test_two_lungs_become_one_mask(tmp_path):
    image = picture(tmp_path / "a.png")
    left = picture(tmp_path / "l.png", grey=np.where(np.arange(6) > 3, 255, 0))
    right = picture(tmp_path / "r.png", grey=np.where(np.arange(6) < 2, 255, 0))

    made = combined_mask(image, (left, right), tmp_path / "made" / "deep" / "a.png")

    assert np.asarray(Image.open(made))[0].tolist() == [255, 255, 0, 0, 255, 255]
    assert [path.name for path in made.parent.iterdir()] == ["a.png"]


def test_one_bit_lungs_become_black_and_white(tmp_path):
    image, half = picture(tmp_path / "a.png"), tmp_path / "l.png"
    Image.fromarray(np.ones((4, 6), dtype=bool)).save(half)

    made = combined_mask(image, (half, half), tmp_path / "made.png")

    assert np.unique(np.asarray(Image.open(made))).tolist() == [255]


def test_a_smaller_mask_is_enlarged_without_grey(tmp_path):
    image = picture(tmp_path / "a.png", size=(299, 299))
    mask = picture(tmp_path / "m.png", size=(256, 256), grey=np.where(np.arange(256) < 128, 255, 0))

    values = np.asarray(Image.open(combined_mask(image, (mask,), tmp_path / "made.png")))

    assert values.shape == (299, 299)
    assert np.unique(values).tolist() == [0, 255]
    assert (values == 255).mean() == pytest.approx(0.5, abs=0.01)


def test_a_mask_of_another_shape_is_not_stretched(tmp_path):
    image, mask = picture(tmp_path / "a.png", size=(60, 40)), picture(tmp_path / "m.png", size=(40, 40))

    with pytest.raises(NoMaskError, match="another shape"):
        combined_mask(image, (mask,), tmp_path / "made.png")


def test_half_the_lungs_is_no_mask(tmp_path):
    image, left = picture(tmp_path / "a.png"), picture(tmp_path / "l.png")

    with pytest.raises(NoMaskError, match="mask file is missing"):
        combined_mask(image, (left, tmp_path / "gone.png"), tmp_path / "made.png")


def test_lungs_of_two_sizes_are_no_mask(tmp_path):
    image, left = picture(tmp_path / "a.png"), picture(tmp_path / "l.png")

    with pytest.raises(NoMaskError, match="several sizes"):
        combined_mask(image, (left, picture(tmp_path / "r.png", size=(3, 2))), tmp_path / "made.png")


def test_unreadable_files(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"<html>")
    whole = picture(tmp_path / "a.png")

    with pytest.raises(DroppedError, match="image cannot be opened"):
        combined_mask(tmp_path / "broken.png", (whole,), tmp_path / "made.png")
    with pytest.raises(DroppedError, match="image cannot be opened"):
        combined_mask(dicom(tmp_path / "a.dcm", Rows=None), (whole,), tmp_path / "made.png")
    with pytest.raises(NoMaskError, match="mask cannot be opened"):
        combined_mask(whole, (tmp_path / "broken.png",), tmp_path / "made.png")


def test_the_image_may_be_dicom(tmp_path):
    image, mask = dicom(tmp_path / "a.dcm", Rows=8, Columns=12), picture(tmp_path / "m.png", size=(6, 4))

    assert Image.open(combined_mask(image, (mask,), tmp_path / "made.png")).size == (12, 8)
