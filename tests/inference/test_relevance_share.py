import numpy as np
import pytest
import torch

from cxr_isnet.inference.relevance_share import (
    relevance_in_lung,
    relevance_in_other_lungs,
    relevance_null,
)


def left_half(n_images=1):
    mask = torch.zeros(n_images, 1, 4, 4)
    mask[..., :2] = 1
    return mask


def test_it_is_the_share_of_absolute_relevance_over_all_maps():
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0, 0, 0], maps[0, 1, 1, 1], maps[0, 1, 3, 3] = -3.0, 1.0, -1.0

    assert relevance_in_lung(maps, left_half(), torch.tensor([True])) == pytest.approx([0.8])


def test_all_inside_is_one_and_all_outside_zero():
    inside = left_half(2)
    maps = torch.stack([inside[0], 1 - inside[1]])

    assert relevance_in_lung(maps, inside, torch.tensor([1.0, 1.0])).tolist() == [1.0, 0.0]


def test_an_image_without_a_mask_or_without_relevance_has_no_share():
    maps = torch.ones(3, 1, 4, 4)
    maps[1] = 0

    shares = relevance_in_lung(maps, left_half(3), torch.tensor([False, True, True]))

    np.testing.assert_array_equal(np.isnan(shares), [True, True, False])


def test_relevance_that_is_not_finite_has_no_share():
    maps = torch.full((1, 1, 4, 4), torch.inf)

    assert np.isnan(relevance_in_lung(maps, left_half(), torch.tensor([True]))).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_and_arrays_give_the_same(kind):
    maps = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(kind).requires_grad_()

    shares = relevance_in_lung(maps, left_half(5), torch.ones(5))

    again = relevance_in_lung(maps.detach().double().numpy(), left_half(5).numpy(), np.ones(5))
    np.testing.assert_allclose(shares, again)


def test_shapes_that_do_not_belong_together_are_a_bug():
    with pytest.raises(ValueError, match=r"want \(N, K, H, W\)"):
        relevance_in_lung(torch.ones(1, 1, 8, 8), left_half(), torch.ones(1))


SIDE = 64
_down, _right = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
LUNGS = sum(((_right - x) / 0.13) ** 2 + (_down / 0.33) ** 2 < 1 for x in (-0.2, 0.2)).astype(float)[None, None]
ONE = np.ones(1)


def excess(picture):
    maps = np.asarray(picture, dtype=float)[None, None]
    return float((relevance_in_lung(maps, LUNGS, ONE) - relevance_null(maps, LUNGS, ONE))[0])


def test_a_map_that_follows_the_lungs_has_more_in_them_than_elsewhere():
    assert excess(LUNGS[0, 0]) > 0.3
    assert excess(LUNGS[0, 0] * -2) == pytest.approx(excess(LUNGS[0, 0]))


@pytest.mark.parametrize("width", [0.1, 0.2, 0.4])
def test_a_map_that_is_merely_central_gains_nothing(width):
    blob = np.exp(-(_down**2 + _right**2) / (2 * width**2))

    assert excess(blob) < 0.05


def test_a_map_without_preference_gains_nothing():
    assert -0.1 < excess(np.ones((SIDE, SIDE))) < 0.02
    assert -0.1 < excess(np.random.default_rng(0).normal(size=(SIDE, SIDE))) < 0.02


def test_the_null_is_the_mean_over_all_moves_one_by_one():
    generator = np.random.default_rng(1)
    maps, step = generator.normal(size=(1, 2, SIDE, SIDE)), SIDE // 8
    padded = np.pad(np.abs(maps).sum(1)[0], step)
    shares = []
    for turns in range(4):
        for flip in (1, -1):
            for down in (0, step, 2 * step):
                for right in (0, step, 2 * step):
                    moved = np.pad(np.rot90(padded[step:-step, step:-step][:, ::flip], turns), step)
                    seen = moved[down : down + SIDE, right : right + SIDE]
                    shares.append((seen * LUNGS[0, 0]).sum() / seen.sum())
    del shares[4]  # neither turned, mirrored nor shifted

    assert relevance_null(maps, LUNGS, ONE) == pytest.approx([np.mean(shares)])


def test_the_null_is_unknown_where_the_share_is():
    maps = np.ones((3, 1, SIDE, SIDE))
    maps[1] = 0
    masks, known = np.repeat(LUNGS, 3, axis=0), np.array([0.0, 1.0, 1.0])

    np.testing.assert_array_equal(np.isnan(relevance_null(maps, masks, known)), [True, True, False])


def test_lungs_of_other_patients_are_those_of_no_image_of_the_same():
    masks = np.concatenate([LUNGS, LUNGS, 1 - LUNGS])
    maps = np.repeat(LUNGS, 3, axis=0)

    shares = relevance_in_other_lungs(maps, masks, np.ones(3), np.array([0, 0, 1]))

    assert shares == pytest.approx([0.0, 0.0, 1.0])
    assert np.isnan(relevance_in_other_lungs(maps[:1], masks[:1], ONE, np.zeros(1))).all()
