"""What is hidden cannot be found again; what is kept is kept."""

import torch

from cxr_isnet.data.alterations import (
    background_only,
    dilate,
    fill_lungs,
    lungs_only,
    most_relevant,
    paste_lungs,
)

MASK = torch.zeros(1, 1, 50, 50)
MASK[..., 10:30, 10:30] = 1
ONE, OTHER = torch.rand(2, 1, 1, 50, 50, generator=torch.Generator().manual_seed(0))
AVERAGE = torch.full((1, 1, 50, 50), 0.3)


def test_hidden_lungs_leave_no_trace_and_the_background_stays() -> None:
    changed = ONE * (1 - dilate(MASK)) + OTHER * dilate(MASK)

    for hide, filling in ((background_only, 0.3), (fill_lungs, AVERAGE)):
        assert torch.equal(hide(ONE, MASK, filling), hide(changed, MASK, filling))
        assert torch.equal(hide(ONE, MASK, filling)[..., 40:, :], ONE[..., 40:, :])
        assert (hide(ONE, MASK, filling)[MASK > 0] == 0.3).all()


def test_the_rim_is_hidden_with_the_lungs() -> None:
    assert dilate(MASK)[..., 9, 15] == 1
    assert dilate(MASK)[..., 8, 15] == 0


def test_lungs_alone_leave_no_trace_of_the_background() -> None:
    changed = ONE * MASK + OTHER * (1 - MASK)

    assert torch.equal(lungs_only(ONE, MASK, 0.3), lungs_only(changed, MASK, 0.3))
    assert torch.equal(lungs_only(ONE, MASK, 0.3)[MASK > 0], ONE[MASK > 0])


def test_a_swap_takes_the_lungs_of_one_and_nothing_of_the_others() -> None:
    theirs = torch.roll(MASK, 8, dims=-1)
    swapped = paste_lungs(ONE, MASK, OTHER, theirs, AVERAGE)

    assert torch.equal(swapped[MASK > 0], ONE[MASK > 0])
    far = (MASK == 0) & (dilate(theirs) == 0)
    assert torch.equal(swapped[far], OTHER[far])
    between = (MASK == 0) & (theirs > 0)
    torch.testing.assert_close(swapped[between], AVERAGE[between])


def test_the_most_relevant_pixels_are_those_of_a_full_sort() -> None:
    chosen = most_relevant(ONE, MASK, 0.04)

    inside = ONE[MASK > 0]
    assert chosen.sum() == 100
    assert set(ONE[chosen > 0].tolist()) == set(inside.sort().values[-100:].tolist())
    assert most_relevant(ONE, MASK, 0.5).sum() == MASK.sum()
