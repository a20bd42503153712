"""Maps against what radiologists marked."""

import numpy as np
import pytest
import torch

from cxr_isnet.inference.localisation import (
    ZONES,
    box_regions,
    occlusion_gain,
    pointing_game,
    relevance_on_findings,
    zone_agreement,
    zone_agreement_with_others,
    zone_relevance,
)

SIDE = 32


@pytest.fixture
def lungs():
    mask = np.zeros((1, 1, SIDE, SIDE))
    mask[..., 4:28, 2:14] = 1
    mask[..., 4:28, 18:30] = 1
    return mask


def test_boxes_become_regions_and_an_image_without_one_has_none():
    regions = box_regions([[(0.25, 0.5, 0.25, 0.125), (0.0, 0.0, 0.125, 0.125)], []], SIDE)

    assert regions.shape == (2, 1, SIDE, SIDE)
    assert regions[0, 0, 16:20, 8:16].all()
    assert regions[0].sum() == 4 * 8 + 4 * 4
    assert not regions[1].any()


def test_the_pointing_game_looks_at_the_most_relevant_pixel_alone():
    regions = box_regions([[(0, 0, 0.5, 0.5)]] * 3 + [[]], SIDE)
    maps = np.zeros((4, SIDE, SIDE))
    maps[:, 20:, 20:] = 1
    maps[0, 3, 3] = 2
    maps[2] = -1

    np.testing.assert_array_equal(pointing_game(maps, regions), [1, 0, np.nan, np.nan])


def test_relevance_on_a_finding_counts_within_the_lungs_alone(lungs):
    regions = box_regions([[(2 / SIDE, 4 / SIDE, 12 / SIDE, 12 / SIDE)]], SIDE)
    maps = np.zeros((1, SIDE, SIDE))
    maps[0, 5, 5], maps[0, 5, 20], maps[0, 0, 0], maps[0, 6, 6] = 3, 1, 50, -9

    shares, chance = relevance_on_findings(maps, regions, lungs)

    assert shares == pytest.approx([0.75])
    assert chance == pytest.approx([0.25])
    assert np.isnan(relevance_on_findings(maps, box_regions([[]], SIDE), lungs)[0]).all()


def test_zones_go_down_the_right_lung_first_which_is_left_in_the_image(lungs):
    maps = np.zeros((1, SIDE, SIDE))
    for zone in range(6):
        top, left = 4 + 8 * (zone % 3), 2 + 16 * (zone // 3)
        maps[0, top : top + 8, left : left + 12] = zone + 1

    assert zone_relevance(maps, lungs)[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert len(ZONES) == 6
    assert np.isnan(zone_relevance(maps, np.zeros_like(lungs))).all()


def test_agreement_is_that_of_ranks_and_unknown_where_there_is_one_score():
    relevance = np.array([[1, 2, 3, 4, 5, 60], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]], dtype=float)
    scores = np.array([[0, 1, 1.5, 2, 2.5, 3], [0, 1, 1.5, 2, 2.5, 3], [3, 3, 3, 3, 3, 3]])

    np.testing.assert_allclose(zone_agreement(relevance, scores), [1, -1, np.nan], atol=1e-12)


def test_hiding_what_a_classifier_uses_changes_its_output_more_than_hiding_at_random():
    images = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 0.2
    images[:, :, 8:12, 8:12] = 1.0

    def predict(batch: torch.Tensor) -> torch.Tensor:
        seen = batch[:, 0, 8:12, 8:12].mean((1, 2))
        return torch.stack([1 - seen, seen], dim=1)

    right, wrong = np.zeros((2, 3, SIDE, SIDE))
    right[:, 8:12, 8:12] = 1
    wrong[:, :8] = 1

    assert occlusion_gain(predict, images, right, np.ones(3, dtype=int)).min() > 0.2
    assert occlusion_gain(predict, images, wrong, np.ones(3, dtype=int)).max() < 0.1


def test_agreement_with_other_patients_is_the_mean_over_them_one_by_one():
    generator = np.random.default_rng(0)
    relevance, scores, patients = generator.random((5, 6)), generator.integers(0, 4, (5, 6)), np.array([0, 0, 1, 2, 3])
    scores[4], relevance[3, 2] = 2, np.nan

    found = zone_agreement_with_others(relevance, scores, patients)

    for place in range(5):
        others = [other for other in range(4) if patients[other] != patients[place]]
        one_by_one = [zone_agreement(relevance[[place]], scores[[other]])[0] for other in others]
        np.testing.assert_allclose(found[place], np.mean(one_by_one))
