"""Dice and IoU of found lungs against given masks, per image and per site."""

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
from cxr_isnet.evaluation.bootstrap import INTERVAL_METHOD, Estimate, PatientBootstrap
from cxr_isnet.evaluation.metrics import WeightedMean
from cxr_isnet.files import atomic_write, write_json
from cxr_isnet.imaging import read_mask
from cxr_isnet.segmentation.mask_prediction import predict_files, predict_masks
from cxr_isnet.segmentation.overlap import between_lungs, dice, iou
from cxr_isnet.segmentation.overlays import OverlayCase, sheet
from cxr_isnet.segmentation.quality import QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter

POOLED = "pooled"
BATCH = 16
TILES = 18


@dataclass(frozen=True)
class SiteOverlap:
    """How well the lungs of one site were found.

    Attributes:
        n_images: Pairs.
        n_patients: Of them.
        estimates: `dice`, `iou`; `lateral_dice`, which does not count what lies between lungs that both see, and so
            compares hands that leave the heart out with hands that include it; `flagged`, the share of masks that
            quality control would leave out; `accepted_dice`, the Dice of those it would keep.
    """

    n_images: int
    n_patients: int
    estimates: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, object]:
        """For JSON: what is undefined is null."""
        told = {
            name: {key: _finite(getattr(e, key)) for key in ("value", "low", "high")}
            for name, e in self.estimates.items()
        }
        return {"n_images": self.n_images, "n_patients": self.n_patients, **told}


def overlap_table(segmenter: Segmenter, pairs: pd.DataFrame, limits: QualityLimits) -> pd.DataFrame:
    """A row per pair: path, mask, patient_id, site, dice, iou, lateral_dice, the quality's fields, quality_flags.

    Masks are compared at the size of the image, after post-processing, so as they would be written.

    Args:
        segmenter: The segmenter.
        pairs: Rows with a given mask, as `read_pairs` returns them.
        limits: What quality control trusts.

    Raises:
        InputError: An image cannot be read.
    """
    rows = []
    files = predict_files(segmenter, list(pairs["image"]), batch_size=BATCH, workers=0, description="judge")
    for (xray, lungs), given in zip(files, pairs["mask"], strict=True):
        if lungs is None:
            raise InputError(xray.problem)
        quality_flags = "; ".join(lungs.quality.quality_flags(limits))
        rows.append(
            {**_overlaps(lungs.mask, read_mask(given)), **asdict(lungs.quality), "quality_flags": quality_flags}
        )
    named = pairs[["image", "mask", "patient_id", "site"]].rename(columns={"image": "path"})
    return pd.concat([named.reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def evaluate_overlaps(table: pd.DataFrame, *, resamples: int, seed: int) -> dict[str, SiteOverlap]:
    """Means over the images of each site with the 95% interval of a bootstrap over patients; "pooled" when several.

    Args:
        table: As `overlap_table` gives it.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    parts = {str(site): part for site, part in table.groupby("site", sort=True)}
    if len(parts) > 1:
        parts[POOLED] = table
    return {site: _judge(part, resamples, seed) for site, part in parts.items()}


def overlap_lines(results: Mapping[str, SiteOverlap]) -> str:
    """The results as a text table."""
    names = {
        "dice": "Dice",
        "iou": "IoU",
        "lateral_dice": "lateral Dice",
        "flagged": "flagged",
        "accepted_dice": "Dice of accepted",
    }
    heads = "".join(f"  {head:<21}" for head in names.values())
    lines = [f"{'site':<32} {'images':>6} {'patients':>8}{heads}".rstrip()]
    for site, result in results.items():
        told = "".join(
            f"  {e.value:.3f} ({e.low:.3f}-{e.high:.3f})  " for e in (result.estimates[name] for name in names)
        )
        lines.append(f"{site:<32} {result.n_images:>6} {result.n_patients:>8}{told}".rstrip())
    return "\n".join(lines)


def flat_overlaps(results: Mapping[str, SiteOverlap], prefix: str) -> dict[str, float]:
    """Every estimate by a dotted name, as MLflow takes them."""
    return {
        f"{prefix}.{site}.{name}{end}": getattr(estimate, key)
        for site, result in results.items()
        for name, estimate in result.estimates.items()
        for key, end in (("value", ""), ("low", ".low"), ("high", ".high"))
    }


def write_overlaps(output: Path, table: pd.DataFrame, results: Mapping[str, SiteOverlap], *, resamples: int) -> None:
    """Writes `overlaps.csv`, a row per image, and `overlaps.json`, the means with their intervals.

    Args:
        output: Folder, made when missing.
        table: As `overlap_table` gives it.
        results: As `evaluate_overlaps` gives them.
        resamples: Bootstrap resamples that were used.
    """
    output.mkdir(parents=True, exist_ok=True)
    with atomic_write(output / "overlaps.csv") as partial:
        table.to_csv(partial, index=False)
    sites = {site: result.to_dict() for site, result in results.items()}
    content = {"interval": {"method": INTERVAL_METHOD, "resamples": resamples}, "sites": sites}
    write_json(output / "overlaps.json", content)


def draw_overlaps(output: Path, segmenter: Segmenter, table: pd.DataFrame) -> None:
    """Draws `worst.png`, the pairs of lowest Dice, and `typical.png`, those about the median.

    Args:
        output: Folder, which exists.
        segmenter: The segmenter that was judged.
        table: As `overlap_table` gives it.
    """
    ranked = table.sort_values("dice", kind="stable")
    middle = max(0, (len(ranked) - TILES) // 2)
    for name, rows in (("worst", ranked[:TILES]), ("typical", ranked[middle : middle + TILES])):
        cases = [_case(segmenter, row) for row in rows.to_dict("records")]
        picture = sheet(cases, f"{name} of {len(table)}: found lungs yellow, given lungs blue")
        with atomic_write(output / f"{name}.png") as partial:
            picture.save(partial)


def _overlaps(found: NDArray[np.uint8], given: NDArray[np.uint8]) -> dict[str, float]:
    one, other = torch.from_numpy(found), torch.from_numpy(given)
    overlap = dice(one, other)
    lateral = ~between_lungs(one * other)
    return {
        "dice": float(overlap),
        "iou": float(iou(overlap)),
        "lateral_dice": float(dice(one * lateral, other * lateral)),
    }


def _case(segmenter: Segmenter, row: Mapping[Hashable, Any]) -> OverlayCase:
    pixels, given = read_pair(row["path"], row["mask"])
    image = prepare_image(pixels, segmenter.image)[None]
    found = predict_masks(segmenter, image, [(pixels.shape[0], pixels.shape[1])])[0]
    return OverlayCase(pixels, found.mask, given, f"Dice {row['dice']:.3f}, agreement {row['agreement']:.3f}")


def _judge(part: pd.DataFrame, resamples: int, seed: int) -> SiteOverlap:
    flagged = (part["quality_flags"] != "").to_numpy()
    values = part["dice"].to_numpy(dtype=np.float64)
    bootstrap = PatientBootstrap.of(part, resamples=resamples, seed=seed)
    estimates = bootstrap.estimate(
        {
            "dice": WeightedMean(values),
            "iou": WeightedMean(part["iou"].to_numpy(dtype=np.float64)),
            "lateral_dice": WeightedMean(part["lateral_dice"].to_numpy(dtype=np.float64)),
            "flagged": WeightedMean(flagged.astype(np.float64)),
            "accepted_dice": WeightedMean(np.where(flagged, np.nan, values)),
        }
    )
    return SiteOverlap(len(part), bootstrap.n_patients, estimates)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
