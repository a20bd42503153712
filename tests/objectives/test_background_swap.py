"""Mixed-Rand: what the network is shown, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.objectives.background_swap import BackgroundSwap, BackgroundSwapOptions
from cxr_isnet.objectives.methods import find_method

SIZE = 32


class Watching(nn.Module):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(SIZE**2, 3)
        self.shown = torch.zeros(0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown = images
        return self.last(images.flatten(1))


@pytest.fixture
def grey() -> dict[str, torch.Tensor]:
    """Six images of one grey each, so that a pixel tells where it is from; the fifth has no mask, the sixth an empty
    one. The lungs of the first two are elsewhere than those of the others."""
    image = torch.linspace(0.1, 0.6, 6)[:, None, None, None].expand(6, 1, SIZE, SIZE).clone()
    mask = torch.zeros(6, 1, SIZE, SIZE)
    mask[:2, :, 4:14, 4:14] = mask[2:4, :, 16:28, 16:28] = 1
    has_mask = torch.tensor([True, True, True, True, False, True])
    return {"image": image, "mask": mask, "has_mask": has_mask, "label": torch.tensor([0, 1, 2, 1, 0, 2])}


def shown(batch: dict[str, torch.Tensor], seed: int, probability: float = 1.0) -> tuple[torch.Tensor, dict]:
    objective = BackgroundSwap(Watching(), BackgroundSwapOptions(probability)).train()
    torch.manual_seed(seed)
    terms = objective(batch)
    return objective.network.shown, terms


def donor_of(images: torch.Tensor, batch: dict[str, torch.Tensor], index: int) -> int:
    """By the grey of a corner."""
    return int((batch["image"][:, 0, 0, 31] - images[index, 0, 0, 31]).abs().argmin())


@pytest.mark.parametrize("seed", range(5))
def test_lungs_stay_and_the_rest_is_the_donors_with_its_lungs_filled(seed, grey):
    images, terms = shown(grey, seed)
    found = images.numpy()[:, 0]

    donors = [donor_of(images, grey, i) for i in range(6)]
    average = float(grey["image"].mean())
    reach = 1  # round(0.02 * 32)
    for i in range(6):
        donor_mask = grey["mask"][donors[i], 0].numpy()
        for row, column in np.ndindex(SIZE, SIZE):
            near = donor_mask[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1].any()
            expected = float(grey["image"][donors[i], 0, 0, 0])
            if donors[i] != i and near:
                expected = average
            if grey["mask"][i, 0, row, column] or donors[i] == i:
                expected = float(grey["image"][i, 0, 0, 0])
            assert found[i, row, column] == pytest.approx(expected, abs=1e-6), (i, row, column)
    assert sorted(donors[:4]) == [0, 1, 2, 3]
    assert donors[4:] == [4, 5]
    assert float(terms["swapped"]) == sum(d != i for i, d in enumerate(donors))


def test_the_permutation_comes_from_torchs_generator_and_changes_from_step_to_step(grey):
    donors = {seed: tuple(donor_of(shown(grey, seed)[0], grey, i) for i in range(4)) for seed in range(12)}

    assert all(torch.equal(shown(grey, seed)[0], shown(grey, seed)[0]) for seed in donors)
    assert len(set(donors.values())) > 4


def test_as_many_images_are_swapped_as_the_probability_says(grey):
    counts = {p: sum(float(shown(grey, seed, p)[1]["swapped"]) for seed in range(60)) for p in (0.0, 0.5, 1.0)}

    assert counts[0.0] == 0
    assert counts[0.5] == pytest.approx(counts[1.0] / 2, rel=0.2)


def test_the_loss_is_the_cross_entropy_of_what_is_shown_with_the_lungs_label(grey):
    objective = BackgroundSwap(Watching(), BackgroundSwapOptions()).train()

    terms = objective(grey)

    expected = F.cross_entropy(objective.network.last(objective.network.shown.flatten(1)), grey["label"])
    torch.testing.assert_close(terms["loss"], expected)


def test_validation_images_are_shown_as_they_are(grey):
    objective = BackgroundSwap(Watching(), BackgroundSwapOptions()).eval()

    terms = objective(grey)

    assert torch.equal(objective.network.shown, grey["image"])
    assert float(terms["swapped"]) == 0


def test_a_batch_of_one_stays_as_it_is(grey):
    one = {key: value[:1] for key, value in grey.items()}

    assert torch.equal(shown(one, 0)[0], one["image"])


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_probability_out_of_its_range_is_reported(probability):
    with pytest.raises(InputError, match=rf"probability is {probability}.*\[0, 1\]"):
        find_method("background_swap").parse_options({"probability": probability})
