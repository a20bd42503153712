"""The heatmap loss of a batch: which images count, sets of rules, inner layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cxr_isnet.losses import (
    ForegroundForm,
    HeatmapLossConfig,
    HeatmapTerms,
    RelevanceBounds,
    aggregate_layers,
    background_loss,
    foreground_loss,
    heatmap_loss,
)

BOUNDS = RelevanceBounds(60.0, 61.0)  # above the totals of the maps here, so that the foreground loss is at work
CONFIG = HeatmapLossConfig(background=2.0, foreground=0.5, decay=0.8, activation=3.0)
ALL = torch.ones(3, dtype=torch.bool)


def loss(
    maps: Mapping[str, Tensor],
    mask: Tensor,
    has_mask: Tensor = ALL,
    bounds: Mapping[str, Sequence[RelevanceBounds]] | None = None,
    config: HeatmapLossConfig = CONFIG,
) -> HeatmapTerms:
    return heatmap_loss(maps, mask, has_mask, bounds or {name: [BOUNDS] for name in maps}, config)


def test_is_the_weighted_sum_of_both_losses_averaged_over_the_images(relevance: Tensor, mask: Tensor) -> None:
    terms = loss({"image": relevance}, mask)
    background = background_loss(relevance, mask, decay=0.8, activation=3.0).mean()
    foreground = foreground_loss(relevance, mask, BOUNDS).mean()
    assert_close(terms.background, background)
    assert_close(terms.foreground, foreground)
    assert_close(terms.loss, 2.0 * background + 0.5 * foreground)
    assert terms.images == 3


def test_the_form_of_the_foreground_loss_is_the_configured_one(relevance: Tensor, mask: Tensor) -> None:
    bounds = {"image": [RelevanceBounds(0.5, 1.0)]}
    config = HeatmapLossConfig(form=ForegroundForm.HYBRID)
    found = loss({"image": relevance}, mask, bounds=bounds, config=config).foreground
    assert_close(found, foreground_loss(relevance, mask, RelevanceBounds(0.5, 1.0), ForegroundForm.HYBRID).mean())


def unusable(mask: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Mask and has_mask of a batch whose middle image has no usable mask."""
    mask, has_mask = mask.clone(), ALL.clone()
    if how == "has none":
        has_mask[1] = False
    elif how == "has none and nonsense in its place":
        has_mask[1], mask[1] = False, torch.nan
    else:
        mask[1] = 0
    return mask, has_mask


@pytest.mark.parametrize("how", ["has none", "has none and nonsense in its place", "has an empty one"])
def test_an_image_without_a_usable_mask_adds_nothing(how: str, relevance: Tensor, mask: Tensor) -> None:
    mask, has_mask = unusable(mask, how)
    relevance.requires_grad_()
    terms = loss({"image": relevance}, mask, has_mask)
    (grad,) = torch.autograd.grad(terms.loss, relevance)
    others = loss({"image": relevance[::2]}, mask[::2], ALL[::2])
    assert_close(vars(terms), vars(others))
    assert terms.images == 2
    assert not grad[1].any()
    assert grad[0].any()
    assert grad[2].any()


@pytest.mark.parametrize("how", ["has none", "has an empty one"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_whatever_the_map_of_an_image_without_a_mask_gradients_are_finite(
    value: float, how: str, relevance: Tensor, mask: Tensor
) -> None:
    mask, has_mask = unusable(mask, how)
    relevance[1] = value
    relevance = relevance.float().requires_grad_()
    (grad,) = torch.autograd.grad(loss({"image": relevance}, mask, has_mask).loss, relevance)
    assert grad.isfinite().all()
    assert not grad[1].any()


@pytest.mark.parametrize("mask_value", [0.0, 1.0])
def test_a_batch_without_masks_costs_nothing_and_can_be_differentiated(mask_value: float, relevance: Tensor) -> None:
    relevance.requires_grad_()
    terms = loss({"image": relevance}, torch.full((3, 1, 6, 5), mask_value), ~ALL)
    (grad,) = torch.autograd.grad(terms.loss, relevance)
    assert terms.loss == 0
    assert terms.images == 0
    assert not grad.any()


@pytest.mark.parametrize("kind", [torch.uint8, torch.bool, torch.float32])
def test_masks_of_any_dtype(kind: torch.dtype, relevance: Tensor, mask: Tensor) -> None:
    assert_close(loss({"image": relevance}, mask.to(kind)).loss, loss({"image": relevance}, mask).loss)


@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(lambda m: (m * 255).to(torch.uint8), id="0 and 255"),
        pytest.param(lambda m: 0.1 + 0.8 * m, id="probabilities"),
        pytest.param(lambda m: m[:, None].expand(-1, 2, -1, -1, -1), id="the same for every map"),
    ],
)
def test_masks_of_any_scale(spell: Callable[[Tensor], Tensor], relevance: Tensor, mask: Tensor) -> None:
    found = loss({"image": relevance, "deep": relevance[..., :3, :2]}, spell(mask))
    assert_close(vars(found), vars(loss({"image": relevance, "deep": relevance[..., :3, :2]}, mask)))


@pytest.mark.parametrize("shape", [(3, 6, 5), (3, 3, 6, 5), (2, 1, 6, 5), (3, 2, 3, 6, 5), (3, 3, 1, 6, 5), (6, 5)])
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...], relevance: Tensor) -> None:
    with pytest.raises(ValueError, match="mask"):
        loss({"image": relevance}, torch.ones(shape))


def test_each_map_has_its_own_mask(relevance: Tensor, mask: Tensor) -> None:
    """The mean over the maps that have a mask: here all but one, whose mask is empty."""
    masks = torch.stack([mask, mask.flip(-1)], 1)
    masks[1, 0] = 0
    found = loss({"image": relevance}, masks)
    single = [
        loss({"image": relevance[i : i + 1, k : k + 1]}, masks[i : i + 1, k], ALL[:1])
        for i in range(3)
        for k in range(2)
        if (i, k) != (1, 0)
    ]
    assert found.images == 3
    for name in ("loss", "background", "foreground"):
        assert_close(getattr(found, name), torch.stack([getattr(s, name) for s in single]).mean())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_map_that_is_not_finite_is_left_out_and_counted(value: float, relevance: Tensor, mask: Tensor) -> None:
    expected = loss({"image": relevance[::2]}, mask[::2], ALL[::2])
    relevance[1, 0, 0, 2, 3] = value
    found = loss({"image": relevance.requires_grad_()}, mask)
    (gradient,) = torch.autograd.grad(found.loss, relevance)
    assert_close(found.loss, expected.loss)
    assert (found.images, found.not_finite) == (2, 1)
    assert gradient.isfinite().all()


def test_maps_of_each_set_of_rules_are_held_to_its_own_bounds(relevance: Tensor, mask: Tensor) -> None:
    one, other = RelevanceBounds(60.0, 61.0), RelevanceBounds(0.5, 1.0)
    found = loss({"image": relevance}, mask, bounds={"image": [one, other]}).foreground
    parts = [foreground_loss(relevance[:, k : k + 1], mask, c).mean() for k, c in enumerate((one, other))]
    assert_close(found, torch.stack(parts).mean())


def test_maps_that_cannot_be_shared_out_evenly_are_refused(relevance: Tensor, mask: Tensor) -> None:
    with pytest.raises(ValueError, match="bounds"):
        loss({"image": relevance[:, :1]}, mask, bounds={"image": [BOUNDS, BOUNDS]})
    with pytest.raises(ValueError, match="bounds"):
        loss({"image": torch.cat([relevance, relevance[:, :1]], 1)}, mask, bounds={"image": [BOUNDS, BOUNDS]})


@pytest.mark.parametrize("decay", [0.0, 0.8, 1.0])
def test_inner_layers_are_ranked_by_their_losses(decay: float, relevance: Tensor, mask: Tensor) -> None:
    maps = {"image": relevance, "deep": torch.randn(3, 2, 8, 3, 2), "deeper": 0.1 * torch.randn(3, 2, 8, 2, 2)}
    bounds = {"image": [BOUNDS], "deep": [RelevanceBounds(100.0, 200.0)], "deeper": [RelevanceBounds(0.5, 1.0)]}
    single = [float(loss({name: maps[name]}, mask, bounds=bounds).loss) for name in maps]
    ranked = sorted(single, reverse=True)
    expected = sum(decay**i * v for i, v in enumerate(ranked)) / sum(decay**i for i in range(3))
    config = HeatmapLossConfig(2.0, 0.5, 0.8, 3.0, layer_decay=decay)
    found = loss(maps, mask, bounds=bounds, config=config).loss
    assert float(found) == pytest.approx(expected)
    backwards = loss(dict(reversed(maps.items())), mask, bounds=bounds, config=config).loss
    assert_close(backwards, found)


def test_aggregation_goes_from_the_worst_layer_to_their_mean() -> None:
    losses = torch.tensor([0.3, 2.0, 1.0])
    assert aggregate_layers(losses, 0.0) == 2.0
    assert_close(aggregate_layers(losses, 1.0), losses.mean())
    assert aggregate_layers(losses, 1.0) < aggregate_layers(losses, 0.5) < 2.0


def test_gradient(relevance: Tensor, mask: Tensor) -> None:
    mask, has_mask = unusable(mask, "has an empty one")

    def total(image: Tensor, deep: Tensor) -> Tensor:
        return loss({"image": image, "deep": deep}, mask, has_mask).loss

    deep = torch.randn(3, 2, 4, 3, 2, requires_grad=True)
    assert torch.autograd.gradcheck(total, (relevance.requires_grad_(), deep))


def test_float32_maps_give_a_float32_loss(relevance: Tensor, mask: Tensor) -> None:
    terms = loss({"image": relevance.float()}, mask)
    assert terms.loss.dtype == torch.float32
