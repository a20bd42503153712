import numpy as np
import pytest
import torch

from cxr_isnet.data import ImageConfig, equalize, prepare_image, prepare_mask
from cxr_isnet.data.preparation import BLACK, HISTOGRAM_BINS
from cxr_isnet.errors import InputError

RAMP = np.tile(np.linspace(0.25, 1, 100, dtype=np.float32) ** 3, (60, 1))  # nothing black in it


def test_image_is_a_unit_range_tensor_of_the_wanted_size():
    image = prepare_image(RAMP, ImageConfig(size=40))

    assert type(image) is torch.Tensor
    assert (image.shape, image.dtype) == ((1, 40, 40), torch.float32)
    assert 0 <= image.min() <= image.max() <= 1


def test_rows_stay_rows():
    image = prepare_image(RAMP, ImageConfig(size=32, equalize=False))[0]

    assert torch.allclose(image[0], image[-1])
    assert (image[0].diff() >= 0).all()


def test_equalized_values_are_spread_evenly():
    image = prepare_image(RAMP, ImageConfig(size=64))

    quartiles = torch.quantile(image, torch.tensor([0.25, 0.5, 0.75]))
    assert torch.allclose(quartiles, torch.tensor([0.25, 0.5, 0.75]), atol=0.05)


def test_equalization_takes_exposure_away():
    image, darker = (prepare_image(ramp, ImageConfig(size=64)) for ramp in (RAMP, RAMP**1.2))

    assert (image - darker).abs().mean() < 0.03


def test_a_black_border_does_not_change_the_grey_values_within():
    inside = torch.from_numpy(RAMP[:, :90])
    framed = torch.zeros(100, 140)
    framed[20:80, 30:120] = inside

    wide, bare = equalize(framed), equalize(inside)

    assert torch.equal(wide[20:80, 30:120], bare)
    assert wide.count_nonzero() == bare.count_nonzero()


def test_black_stays_black_where_there_is_nothing_else():
    assert equalize(torch.full((8, 8), 1 / 255)).count_nonzero() == 0


def _equalized_by_edges(image):
    """Histogram and interpolation over the edges of its bins, as numpy has them."""
    grey = image.numpy()
    seen = grey > BLACK
    counts, edges = np.histogram(grey[seen], bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    shares = np.concatenate(([0.0], np.cumsum(counts) / max(1, seen.sum())))
    return torch.from_numpy(np.where(seen, np.interp(grey, edges, shares), 0.0).astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_looking_shares_up_gives_the_very_image_of_interpolating_them(seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 90, 70, generator=generator) ** (1 + seed)
    image[..., :9] = 0
    edges = torch.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS
    image[0, 20:45, 10:51] = edges.reshape(25, 41)
    image[0, -1, :3] = torch.tensor([1.0, BLACK, 1 - 2**-24])

    assert torch.equal(equalize(image), _equalized_by_edges(image))


def test_a_share_is_the_part_of_the_seen_pixels_that_is_darker():
    image = torch.tensor([0.0, 0.25, 0.25, 0.5, 0.75, 1.0])

    equalized = equalize(image).tolist()

    darker = [sum(0 < other < grey for other in image.tolist()) / 5 for grey in image.tolist()]
    assert equalized == pytest.approx([*darker[:-1], 1.0])  # white is the end of the last bin


def test_constant_image_stays_finite():
    assert prepare_image(np.full((40, 40), 0.5, dtype=np.float32), ImageConfig(size=32)).isfinite().all()


def test_fine_pattern_does_not_alias():
    stripes = np.tile(np.array([0, 1], dtype=np.float32), (320, 160))

    image = prepare_image(stripes, ImageConfig(size=32, equalize=False))

    assert image.std() < 0.02


def test_mask_is_lung_where_half_of_it_was():
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, :32] = 1

    small = prepare_mask(mask, ImageConfig(size=32))

    assert torch.equal(small.unique(), torch.tensor([0.0, 1.0]))
    assert small.mean() == pytest.approx(0.5, abs=1 / 32)


def test_input_of_the_right_size_is_not_shared():
    array = np.full((32, 32), 0.25, dtype=np.float32)

    prepare_image(array, ImageConfig(size=32, equalize=False)).zero_()

    assert (array == 0.25).all()


@pytest.mark.parametrize("size", [8, 5000])
def test_a_size_that_no_network_has_is_refused(size):
    with pytest.raises(InputError, match=f"image size is {size}"):
        ImageConfig(size=size)
