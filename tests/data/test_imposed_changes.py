"""Changes that a shortcut may consist of: what each does to an image, and that nothing else is touched."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from cxr_isnet.data import IMPOSED_CHANGES, ImposedChange, dilate
from cxr_isnet.data import imposed_changes as changes
from cxr_isnet.phantoms import Corner

SIZE = 64
IN_BACKGROUND = {"corner text", "marker", "border", "collimation", "gradient"}


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(3, 1, 8, 8, generator=generator), SIZE, mode="bilinear")
    return (0.2 + 0.6 * smooth).clamp(0, 1)


@pytest.fixture
def masks() -> torch.Tensor:
    masks = torch.zeros(3, 1, SIZE, SIZE)
    masks[..., 20:50, 14:28] = 1
    masks[..., 20:50, 36:50] = 1
    return masks


def test_the_kinds_are_those_of_x_ray_rooms_and_archives_each_in_doses_or_places() -> None:
    kinds = [change.kind for change in IMPOSED_CHANGES]

    assert set(kinds) == IN_BACKGROUND | {"blur", "sharpening", "noise", "JPEG", "crop", "gamma", "contrast"}
    assert all(kinds.count(kind) >= 3 for kind in kinds)
    assert len({change.name for change in IMPOSED_CHANGES}) == len(IMPOSED_CHANGES)


@pytest.mark.parametrize("change", IMPOSED_CHANGES, ids=lambda change: change.name)
def test_every_change_changes_images_keeps_their_form_and_is_the_same_each_time(
    change: ImposedChange, images: torch.Tensor, masks: torch.Tensor
) -> None:
    before = images.clone()

    changed = change.apply(images, masks)

    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert ((changed - images).abs().amax((1, 2, 3)) > 0.005).all()
    assert torch.equal(images, before)
    assert torch.equal(changed, change.apply(images, masks))
    if change.kind in IN_BACKGROUND:
        assert torch.equal(changed[dilate(masks) > 0], images[dilate(masks) > 0])


@pytest.mark.parametrize("corner", list(Corner))
def test_a_mark_lies_in_its_corner(corner: Corner, images: torch.Tensor, masks: torch.Tensor) -> None:
    changed = changes.corner_mark(images, masks, torch.ones(6, 10), corner)

    rows, columns = np.nonzero((changed != images)[0, 0].numpy())
    assert (rows < SIZE / 2).all() == corner.value.startswith("top")
    assert (columns < SIZE / 2).all() == corner.value.endswith("left")
    assert len(rows) == 60
    assert (changed[0, 0][rows, columns] == 1).all()


def test_blur_is_gaussian(images: torch.Tensor, masks: torch.Tensor) -> None:
    """Against scipy's filter, which has the same truncation and reflects at the edge without repeating it."""
    expected = ndimage.gaussian_filter(images[0, 0].double().numpy(), 1.0, mode="mirror", truncate=3.0)

    np.testing.assert_allclose(changes.blur(images, masks, 1.0)[0, 0], expected, atol=1e-5)


def test_sharpening_adds_what_a_blur_takes_away(images: torch.Tensor, masks: torch.Tensor) -> None:
    blurred = changes.blur(images, masks, 1.0)

    torch.testing.assert_close(changes.sharpen(images, masks, 0.5), (1.5 * images - 0.5 * blurred).clamp(0, 1))


def test_noise_has_the_standard_deviation_that_is_asked_for(masks: torch.Tensor) -> None:
    grey = torch.full((3, 1, SIZE, SIZE), 0.5)

    added = changes.noise(grey, masks, 0.05) - grey

    assert float(added.std()) == pytest.approx(0.05, rel=0.03)
    assert not torch.equal(added[0], added[1])


def test_a_crop_is_the_enlarged_middle(masks: torch.Tensor) -> None:
    ramp = torch.linspace(0, 1, SIZE).expand(3, 1, SIZE, SIZE)

    cropped = changes.crop(ramp, masks, 0.1)[0, 0, 0]

    assert float(cropped[0]) == pytest.approx(6 / (SIZE - 1), abs=1e-6)
    assert float(cropped[-1]) == pytest.approx((SIZE - 7) / (SIZE - 1), abs=1e-6)


def test_jpeg_is_pillows(images: torch.Tensor, masks: torch.Tensor) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.rint(images[0, 0].numpy() * 255).astype(np.uint8)).save(stream, "JPEG", quality=20)

    found = changes.jpeg(images, masks, 20)[0, 0].numpy()

    np.testing.assert_allclose(found, np.asarray(Image.open(stream), dtype=np.float32) / 255)


def test_a_border_and_a_gradient_lie_on_the_side_that_they_are_named_after(masks: torch.Tensor) -> None:
    grey, none = torch.full((1, 1, SIZE, SIZE), 0.4), torch.zeros(1, 1, SIZE, SIZE)
    ends = {"left": np.s_[0, 0, :, 0], "right": np.s_[0, 0, :, -1], "top": np.s_[0, 0, 0], "bottom": np.s_[0, 0, -1]}
    for edge, end in ends.items():
        black, brighter = changes.border(grey, none, 0.1, (edge,)), changes.gradient(grey, none, 0.2, edge)
        assert (black[end] == 0).all()
        assert float((black == 0).float().mean()) == pytest.approx(6 / SIZE)
        torch.testing.assert_close(brighter[end], torch.full((SIZE,), 0.6))
        assert float(brighter.min()) == pytest.approx(0.4)


def test_gamma_and_contrast(images: torch.Tensor, masks: torch.Tensor) -> None:
    mean = images[0].mean()

    torch.testing.assert_close(changes.gamma(images, masks, 2.0), images**2)
    torch.testing.assert_close(
        changes.contrast(images, masks, 0.5)[0], mean + 0.5 * (images[0] - mean), atol=1e-6, rtol=0
    )
