import numpy as np
import pytest
import torch

from cxr_isnet.inference.relevance_share import relevance_in_lung


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
