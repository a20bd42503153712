"""Evaluation of a segmenter: Dice and IoU of predicted against given masks, per image and per site, to files."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cxr_isnet.data import prepare_image, read_pair
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import BCA_BOOTSTRAP, Interval, PatientBootstrap, WeightedMean, interval_text, text_columns
from cxr_isnet.files import atomic_write, write_json
from cxr_isnet.imaging import read_mask
from cxr_isnet.segmentation.mask_prediction import predict_files, predict_masks
from cxr_isnet.segmentation.overlap import between_lungs, dice, iou
from cxr_isnet.segmentation.overlays import OverlayTile, contact_sheet
from cxr_isnet.segmentation.quality import QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter
from cxr_isnet.tables import write_table

POOLED = "pooled"
BATCH = 16
TILES = 18


@dataclass(frozen=True)
class SiteOverlap:
    """Overlap of the predicted with the given masks of one site.

    Attributes:
        n_images: Pairs.
        n_patients: Of them.
        estimates: `dice`, `iou`; `lateral_dice`, which does not count what lies between lungs that both masks hold, and
            so compares annotators who leave the heart out with those who include it; `flagged`, the share of masks with
            a quality flag; `accepted_dice`, the Dice of the masks without one.
    """

    n_images: int
    n_patients: int
    estimates: Mapping[str, Interval]

    def to_dict(self) -> dict[str, object]:
        """For JSON: what is undefined is null."""
        ends = ("estimate", "low", "high")
        estimates = {name: {end: _finite(getattr(e, end)) for end in ends} for name, e in self.estimates.items()}
        return {"n_images": self.n_images, "n_patients": self.n_patients, **estimates}


@dataclass(frozen=True)
class MaskEvaluation:
    """A segmenter's overlaps with given masks.

    Attributes:
        table: A row per image, as `overlap_table` returns it.
        sites: Means per site, as `evaluate_overlaps` returns them.
    """

    table: pd.DataFrame
    sites: Mapping[str, SiteOverlap]


def evaluate_segmenter(
    segmenter: Segmenter, pairs: pd.DataFrame, limits: QualityLimits, output: Path, *, resamples: int, seed: int
) -> MaskEvaluation:
    """Evaluates a segmenter and writes `overlaps.csv`, `overlaps.json`, `worst.png` and `typical.png`.

    Args:
        segmenter: The segmenter.
        pairs: Rows with a given mask, as `read_pairs` returns them.
        limits: Of the quality flags.
        output: Folder, made when missing.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: An image cannot be read.
    """
    table = overlap_table(segmenter, pairs, limits)
    sites = evaluate_overlaps(table, resamples=resamples, seed=seed)
    write_overlaps(output, table, sites, resamples=resamples)
    draw_overlaps(output, segmenter, table)
    return MaskEvaluation(table, sites)


def overlap_table(segmenter: Segmenter, pairs: pd.DataFrame, limits: QualityLimits) -> pd.DataFrame:
    """A row per pair: path, mask, patient, site, any heart, dice, iou, lateral_dice, the mask quality, quality_flags.

    Masks are compared at the size of the image, after post-processing, so as they would be written.

    Args:
        segmenter: The segmenter.
        pairs: Rows with a given mask, as `read_pairs` returns them.
        limits: Of the quality flags.

    Raises:
        InputError: An image cannot be read.
    """
    if "heart" in pairs.columns and pairs["heart"].nunique() > 1:
        parts = [overlap_table(segmenter, rows, limits).set_index(rows.index) for _, rows in pairs.groupby("heart")]
        return pd.concat(parts).sort_index()
    rows = []
    if "heart" in pairs.columns:
        segmenter = segmenter.with_heart(pairs["heart"].iloc[0])
    files = predict_files(segmenter, list(pairs["image"]), batch_size=BATCH, workers=0, description="evaluate")
    for (xray, predicted), image, given in zip(files, pairs["image"], pairs["mask"], strict=True):
        if predicted is None:
            raise InputError(xray.problem)
        quality = predicted.quality
        flags = "; ".join(quality.quality_flags(limits))
        rows.append({**_overlaps(predicted.mask, read_mask(given, image)), **asdict(quality), "quality_flags": flags})
    kept = ["image", "mask", "patient_id", "site", *(["heart"] if "heart" in pairs.columns else [])]
    named = pairs[kept].rename(columns={"image": "path"})
    return pd.concat([named.reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def evaluate_overlaps(table: pd.DataFrame, *, resamples: int, seed: int) -> dict[str, SiteOverlap]:
    """Means over the images of each site with the 95% interval of a bootstrap over patients; "pooled" when several.

    Args:
        table: As `overlap_table` returns it.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    sites = {str(site): rows for site, rows in table.groupby("site", sort=True)}
    if len(sites) > 1:
        sites[POOLED] = table
    return {site: _site_overlap(rows, resamples, seed) for site, rows in sites.items()}


def write_overlaps(output: Path, table: pd.DataFrame, results: Mapping[str, SiteOverlap], *, resamples: int) -> None:
    """Writes `overlaps.csv`, a row per image, and `overlaps.json`, the means with their intervals.

    Args:
        output: Folder, made when missing.
        table: As `overlap_table` returns it.
        results: As `evaluate_overlaps` returns them.
        resamples: Bootstrap resamples that were used.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_table(table, output / "overlaps.csv")
    sites = {site: result.to_dict() for site, result in results.items()}
    content = {"interval": {"method": BCA_BOOTSTRAP, "resamples": resamples}, "sites": sites}
    write_json(output / "overlaps.json", content)


def draw_overlaps(output: Path, segmenter: Segmenter, table: pd.DataFrame) -> None:
    """Draws `worst.png`, the pairs of lowest Dice, and `typical.png`, those about the median.

    Args:
        output: Folder, which exists.
        segmenter: The segmenter that was evaluated.
        table: As `overlap_table` returns it.
    """
    ranked = table.sort_values("dice", kind="stable")
    middle = max(0, (len(ranked) - TILES) // 2)
    for name, rows in (("worst", ranked[:TILES]), ("typical", ranked[middle : middle + TILES])):
        tiles = [_tile(segmenter, row) for row in rows.to_dict("records")]
        sheet = contact_sheet(tiles, f"{name} of {len(table)}: predicted lungs yellow, given lungs blue")
        with atomic_write(output / f"{name}.png") as partial:
            sheet.save(partial)


def format_overlaps(results: Mapping[str, SiteOverlap]) -> str:
    """The results as a text table."""
    names = {
        "dice": "Dice",
        "iou": "IoU",
        "lateral_dice": "lateral Dice",
        "flagged": "flagged",
        "accepted_dice": "Dice of accepted",
    }
    rows = [["site", "images", "patients", *names.values()]]
    for site, result in results.items():
        counts = [str(result.n_images), str(result.n_patients)]
        rows.append([site, *counts, *(interval_text(result.estimates[name]) for name in names)])
    return "\n".join(text_columns(rows))


def flat_overlaps(results: Mapping[str, SiteOverlap], prefix: str) -> dict[str, float]:
    """Every estimate by its name, as `external/<site>/dice`, `dice_low`, `dice_high`."""
    return {
        f"{prefix}/{site}/{name}{suffix}": getattr(estimate, end)
        for site, result in results.items()
        for name, estimate in result.estimates.items()
        for end, suffix in (("estimate", ""), ("low", "_low"), ("high", "_high"))
    }


def _overlaps(predicted: NDArray[np.uint8], given: NDArray[np.uint8]) -> dict[str, float]:
    one, other = torch.from_numpy(predicted), torch.from_numpy(given)
    overlap = dice(one, other)
    lateral = ~between_lungs(one * other)
    return {
        "dice": float(overlap),
        "iou": float(iou(overlap)),
        "lateral_dice": float(dice(one * lateral, other * lateral)),
    }


def _site_overlap(rows: pd.DataFrame, resamples: int, seed: int) -> SiteOverlap:
    flagged = (rows["quality_flags"] != "").to_numpy()
    values = rows["dice"].to_numpy(dtype=np.float64)
    bootstrap = PatientBootstrap.of(rows, resamples=resamples, seed=seed)
    estimates = bootstrap.intervals(
        {
            "dice": WeightedMean(values),
            "iou": WeightedMean(rows["iou"].to_numpy(dtype=np.float64)),
            "lateral_dice": WeightedMean(rows["lateral_dice"].to_numpy(dtype=np.float64)),
            "flagged": WeightedMean(flagged.astype(np.float64)),
            "accepted_dice": WeightedMean(np.where(flagged, np.nan, values)),
        }
    )
    return SiteOverlap(len(rows), bootstrap.n_patients, estimates)


def _tile(segmenter: Segmenter, row: Mapping[Hashable, Any]) -> OverlayTile:
    pixels, given = read_pair(row["path"], row["mask"])
    image = prepare_image(pixels, segmenter.image)[None]
    predicted = predict_masks(segmenter.with_heart(row.get("heart")), image, [(pixels.shape[0], pixels.shape[1])])[0]
    return OverlayTile(pixels, predicted.mask, given, f"Dice {row['dice']:.3f}, agreement {row['agreement']:.3f}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
