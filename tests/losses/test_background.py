"""Background loss against numpy loops, and what must hold of it."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cxr_isnet.losses import background_loss, fit_mask

SETTINGS = [{"decay": 0.0}, {"decay": 0.8}, {"decay": 1.0}, {"decay": 0.8, "activation": 10.0}]


def loops(relevance: Tensor, mask: Tensor, decay: float, activation: float = 1.0, *, clamped: bool = False) -> Tensor:
    """One loss per image; `clamped` as the reference writes it, -ln(1 - q)."""
    losses = []
    for image, inside in zip(relevance.numpy(), mask.numpy()[:, 0], strict=True):
        terms = []
        for one in np.abs(image):
            foreground = [v for channel in one for v in channel[inside == 1]]
            for channel in one / np.mean(foreground):
                ranked = sorted((channel * (1 - inside)).reshape(-1), reverse=True)
                weights = [decay**i for i in range(len(ranked))]
                g = float(np.dot(ranked, weights) / sum(weights))
                q = g / (g + activation)
                terms.append(-np.log(1 - min(q, 1 - 1e-7)) if clamped else np.log1p(g / activation))
        losses.append(np.mean(terms))
    return torch.tensor(np.array(losses))


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_the_formula_in_loops(settings: dict[str, float], relevance: Tensor, mask: Tensor) -> None:
    assert_close(background_loss(relevance, mask, **settings), loops(relevance, mask, **settings), rtol=1e-6, atol=0)


def test_equals_the_clamped_form_of_the_reference_where_that_is_not_clamped(relevance: Tensor, mask: Tensor) -> None:
    expected = loops(relevance, mask, 0.8, clamped=True)
    assert_close(background_loss(relevance, mask, decay=0.8), expected, rtol=1e-6, atol=0)


def test_a_strong_mark_keeps_its_gradient_where_the_clamped_form_has_none(mask: Tensor) -> None:
    relevance = mask[:, None].float()
    relevance[:, :, :, 0, 1] = 1e9
    relevance.requires_grad_()
    loss = background_loss(relevance, mask, decay=0.0)
    (grad,) = torch.autograd.grad(loss.sum(), relevance)
    assert (loss > 20).all()
    assert (grad[:, :, :, 0, 1] > 0).all()


@pytest.mark.parametrize("settings", SETTINGS)
def test_is_zero_for_a_mask_of_ones(settings: dict[str, float], relevance: Tensor) -> None:
    assert not background_loss(relevance, torch.ones(3, 1, 6, 5), **settings).any()


@pytest.mark.parametrize("settings", SETTINGS)
def test_is_zero_with_zero_gradient_if_nothing_lies_outside(
    settings: dict[str, float], relevance: Tensor, mask: Tensor
) -> None:
    inner = (relevance * mask[:, None]).requires_grad_()
    loss = background_loss(inner, mask, **settings)
    (grad,) = torch.autograd.grad(loss.sum(), inner)
    assert not loss.any()
    assert not grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-20, 1e-12, 1e-3, -1.0, 1e6, 1e15])
def test_does_not_change_with_the_scale_or_sign_of_a_map(
    scale: float, dtype: torch.dtype, relevance: Tensor, mask: Tensor
) -> None:
    relevance = relevance.to(dtype)
    expected = background_loss(relevance, mask, decay=0.9)
    assert_close(background_loss(scale * relevance, mask, decay=0.9), expected, rtol=1e-5, atol=0)


def test_maps_of_one_image_may_have_scales_of_their_own(relevance: Tensor, mask: Tensor) -> None:
    scaled = relevance * torch.tensor([1e-6, 1e3])[:, None, None, None]
    assert_close(background_loss(scaled, mask, decay=0.9), background_loss(relevance, mask, decay=0.9))


def test_does_not_depend_on_where_pixels_lie(relevance: Tensor, mask: Tensor) -> None:
    order = torch.randperm(30)
    moved = relevance.flatten(3)[..., order].view_as(relevance)
    moved_mask = mask.flatten(2)[..., order].view_as(mask)
    assert_close(background_loss(moved, moved_mask, decay=0.9), background_loss(relevance, mask, decay=0.9))


def test_of_an_inner_map_uses_the_fitted_mask(relevance: Tensor) -> None:
    mask = (torch.rand(3, 1, 24, 20) < 0.05).double()
    mask[..., 0, 0] = 1
    fitted = fit_mask(mask, (6, 5))
    assert_close(background_loss(relevance, mask, decay=0.9), background_loss(relevance, fitted, decay=0.9))


def test_grows_with_relevance_outside(relevance: Tensor, mask: Tensor) -> None:
    stronger = relevance * (1 + (1 - mask[:, None]))
    for decay in (0.0, 0.9, 1.0):
        assert (background_loss(stronger, mask, decay=decay) > background_loss(relevance, mask, decay=decay)).all()


def test_a_map_with_nothing_inside_or_of_zeros_is_finite(mask: Tensor) -> None:
    for relevance in (torch.zeros(3, 1, 1, 6, 5), (1 - mask)[:, None]):
        relevance.requires_grad_()
        loss = background_loss(relevance, mask, decay=0.9)
        (grad,) = torch.autograd.grad(loss.sum(), relevance)
        assert loss.isfinite().all()
        assert grad.isfinite().all()


def test_gradient(relevance: Tensor, mask: Tensor) -> None:
    assert torch.autograd.gradcheck(lambda r: background_loss(r, mask, decay=0.7), relevance.requires_grad_())
