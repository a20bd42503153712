import math

import numpy as np
import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_mask
from cxr_isnet.segmentation import QualityLimits, mask_evaluation
from cxr_isnet.segmentation.mask_evaluation import (
    draw_overlaps,
    evaluate_overlaps,
    flat_overlaps,
    format_overlaps,
    overlap_table,
    write_overlaps,
)
from cxr_isnet.segmentation.overlays import contact_sheet
from cxr_isnet.segmentation.pairs import read_pairs

from .conftest import two_lungs


@pytest.fixture
def pairs(write_xrays) -> pd.DataFrame:
    """Bright lungs of several sizes: given exactly so, given a fifth shorter, and one lung that is not bright."""
    seen = [two_lungs(), two_lungs(128, 128), two_lungs(100, 60)]
    given = [two_lungs(), two_lungs(128, 128, top=0.32), two_lungs(100, 60)]
    seen[2][:, 30:] = 0
    return read_pairs([str(write_xrays(seen, given))])


def test_each_image_is_compared_with_its_own_mask_at_its_own_size(bright, pairs):
    table = overlap_table(bright, pairs, QualityLimits())

    assert list(table["path"]) == list(pairs["image"])
    assert table["dice"][0] > 0.97
    assert table["dice"][1] == pytest.approx(2 * 0.48 / (0.48 + 0.6), abs=0.03)
    assert table["dice"][2] == pytest.approx(2 / 3, abs=0.03)
    assert np.allclose(table["iou"], table["dice"] / (2 - table["dice"]))
    assert [quality_flags.split()[0] if quality_flags else "" for quality_flags in table["quality_flags"]] == [
        "",
        "",
        "lungs",
    ]


def test_masks_are_flagged_by_the_limits_that_are_given(bright, pairs):
    table = overlap_table(bright, pairs, QualityLimits(smallest_area=0.5))

    assert all(flags.startswith("area 0.") for flags in table["quality_flags"])


@pytest.mark.parametrize("with_heart", ["predicted", "given"])
def test_a_heart_that_one_annotator_includes_and_the_other_leaves_out_does_not_count_laterally(
    bright, write_xrays, with_heart
):
    masks = {"predicted": two_lungs(), "given": two_lungs()}
    masks[with_heart][40:77, 36:48] = 1
    pairs = read_pairs([str(write_xrays([masks["predicted"]], [masks["given"]]))])

    table = overlap_table(bright, pairs, QualityLimits())

    assert table["dice"][0] < 0.92
    assert table["lateral_dice"][0] > 0.97


def test_lung_that_was_missed_or_predicted_beside_the_lungs_counts_laterally(bright, write_xrays):
    leak, missed = two_lungs(), two_lungs()
    leak[50:77, 68:80] = 1
    missed[:, 48:] = 0
    pairs = read_pairs([str(write_xrays([leak, missed], [two_lungs(), two_lungs()]))])

    table = overlap_table(bright, pairs, QualityLimits())

    assert np.allclose(table["lateral_dice"], table["dice"], atol=0.01)
    assert (table["dice"] < 0.95).all()


def test_an_image_that_went_missing_is_named(bright, pairs):
    with pytest.raises(InputError, match=r"gone\.png"):
        overlap_table(bright, pairs.assign(image=["gone.png", *pairs["image"][1:]]), QualityLimits())


@pytest.fixture
def table() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    dice = generator.uniform(0.7, 1, 30)
    return pd.DataFrame(
        {
            "patient_id": [str(number // 2) for number in range(30)],
            "site": ["Alder"] * 20 + ["Birch"] * 10,
            "dice": dice,
            "iou": dice / (2 - dice),
            "lateral_dice": dice + 0.01,
            "quality_flags": np.where(dice < 0.8, "agreement 0.50", ""),
        }
    )


def test_a_site_s_numbers_are_means_over_its_images(table):
    results = evaluate_overlaps(table, resamples=200, seed=0)

    alder, accepted = table[:20], table[:20][table[:20]["quality_flags"] == ""]
    assert list(results) == ["Alder", "Birch", "pooled"]
    assert (results["Alder"].n_images, results["Alder"].n_patients) == (20, 10)
    estimates = results["Alder"].estimates
    assert estimates["dice"].estimate == pytest.approx(alder["dice"].mean())
    assert estimates["iou"].estimate == pytest.approx(alder["iou"].mean())
    assert estimates["flagged"].estimate == pytest.approx(1 - len(accepted) / 20)
    assert estimates["accepted_dice"].estimate == pytest.approx(accepted["dice"].mean())
    assert estimates["lateral_dice"].estimate == pytest.approx(alder["dice"].mean() + 0.01)
    assert results["pooled"].estimates["dice"].estimate == pytest.approx(table["dice"].mean())


def test_intervals_are_wider_when_a_patient_s_images_are_alike(table):
    alike = table.assign(dice=np.repeat(table["dice"].to_numpy()[::2], 2))
    alone = alike.assign(patient_id=[str(number) for number in range(30)])

    def width(frame: pd.DataFrame) -> float:
        estimate = evaluate_overlaps(frame, resamples=2000, seed=0)["pooled"].estimates["dice"]
        return estimate.high - estimate.low

    assert width(alike) == pytest.approx(width(alone) * math.sqrt(2), rel=0.2)


def test_one_site_is_not_pooled_and_one_patient_has_no_interval(table, tmp_path):
    single = table[:2]

    results = evaluate_overlaps(single, resamples=50, seed=0)
    write_overlaps(tmp_path / "out", single, results, resamples=50)

    assert list(results) == ["Alder"]
    assert results["Alder"].to_dict()["dice"]["low"] is None
    assert '"low": null' in (tmp_path / "out" / "overlaps.json").read_text()


def test_the_lines_and_the_flat_names_hold_every_site(table):
    results = evaluate_overlaps(table, resamples=50, seed=0)

    assert [line.split()[0] for line in format_overlaps(results).splitlines()] == ["site", "Alder", "Birch", "pooled"]
    assert f"{table['dice'].mean():.3f} (" in format_overlaps(results)
    assert flat_overlaps(results, "external")["external/pooled/dice"] == pytest.approx(table["dice"].mean())


def test_the_worst_and_the_typical_are_drawn(bright, pairs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(mask_evaluation, "TILES", 1)
    monkeypatch.setattr(
        mask_evaluation,
        "contact_sheet",
        lambda tiles, title: drawn.append((tiles, title)) or contact_sheet(tiles, title),
    )
    table = overlap_table(bright, pairs, QualityLimits())

    draw_overlaps(tmp_path, bright, table)

    assert {path.name for path in tmp_path.glob("*.png")} >= {"worst.png", "typical.png"}
    for (tiles, title), name, row in zip(drawn, ("worst", "typical"), table["dice"].argsort()[:2], strict=True):
        assert title.startswith(f"{name} of 3")
        assert [tile.title.split(",")[0] for tile in tiles] == [f"Dice {table['dice'][row]:.3f}"]
        assert np.array_equal(tiles[0].given, read_mask(pairs["mask"][row]))
