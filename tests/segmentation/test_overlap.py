import pytest
import torch

from cxr_isnet.segmentation.overlap import LungOverlap, between_lungs, dice, iou


def pixels(mask: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(place) for place in mask.nonzero().tolist()}


@pytest.mark.parametrize("seed", range(5))
def test_dice_and_iou_are_those_of_sets_of_pixels(seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.rand(7, 9, generator=generator) > 0.15 * (seed + 1) for _ in range(2))
    one, other = pixels(first), pixels(second)

    found = dice(first, second)

    assert float(found) == pytest.approx(2 * len(one & other) / (len(one) + len(other)))
    assert float(iou(found)) == pytest.approx(len(one & other) / len(one | other))


def test_leading_dimensions_are_broadcast():
    copies = torch.rand(2, 3, 5, 5) > 0.5
    mean = torch.rand(2, 1, 5, 5) > 0.5

    found = dice(copies, mean)

    assert found.shape == (2, 3)
    assert float(found[1, 2]) == pytest.approx(float(dice(copies[1, 2], mean[1, 0])))


def test_two_empty_masks_agree_and_one_empty_mask_does_not():
    empty, full = torch.zeros(4, 4), torch.ones(4, 4)

    assert float(dice(empty, empty)) == 1
    assert float(dice(empty, full)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_between_the_lungs_is_what_has_lung_on_both_sides_in_its_row(seed):
    mask = torch.rand(6, 8, generator=torch.Generator().manual_seed(seed)) > 0.7
    expected = torch.zeros(6, 8, dtype=torch.bool)
    for row in range(6):
        for column in range(8):
            left, right = mask[row, :column].any(), mask[row, column + 1 :].any()
            expected[row, column] = not mask[row, column] and left and right

    assert torch.equal(between_lungs(mask), expected)


def test_the_loss_is_soft_dice_and_cross_entropy_of_each_image():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 6, 8, generator=generator, dtype=torch.float64)
    mask = (torch.rand(3, 1, 6, 8, generator=generator) > 0.6).double()
    expected = []
    for one, other in zip(logits.sigmoid(), mask, strict=True):
        soft = 1 - 2 * (one * other).sum() / (one.sum() + other.sum())
        entropy = -(other * one.log() + (1 - other) * (1 - one).log()).mean()
        expected.append(float(soft + entropy))

    terms = LungOverlap(torch.nn.Identity())({"image": logits, "mask": mask.float()})

    assert float(terms["loss"]) == pytest.approx(sum(expected) / 3, abs=1e-5)


def test_the_loss_falls_from_nearly_two_to_nothing_as_the_map_comes_to_fit():
    class Given(torch.nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, images):
            return (images - 0.5) * self.scale

    mask = torch.zeros(2, 1, 16, 16)
    mask[:, :, 4:12, 4:12] = 1
    batch = {"image": mask, "mask": mask}

    right, unsure, wrong = (LungOverlap(Given(scale))(batch) for scale in (40.0, 0.0, -40.0))

    assert float(right["loss"]) == pytest.approx(0, abs=1e-3)
    assert float(right["loss"]) < float(unsure["loss"]) < float(wrong["loss"])
    assert (float(right["dice"]), float(wrong["dice"])) == (1, 0)
