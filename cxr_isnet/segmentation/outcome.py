"""What judging a segmenter leaves behind: table, numbers, pictures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.data import prepare_image, read_pair
from cxr_isnet.evaluation.bootstrap import BCA_BOOTSTRAP
from cxr_isnet.files import atomic_write, write_json
from cxr_isnet.segmentation.finding import predict_masks
from cxr_isnet.segmentation.judging import SiteOverlap
from cxr_isnet.segmentation.pictures import OverlayCase, sheet
from cxr_isnet.segmentation.segmenter import Segmenter

TILES = 18


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
    content = {"interval": {"method": BCA_BOOTSTRAP, "resamples": resamples}, "sites": sites}
    write_json(output / "overlaps.json", content)


def draw_overlaps(output: Path, segmenter: Segmenter, table: pd.DataFrame) -> None:
    """Replicates `worst.png`, the pairs of lowest Dice, and `typical.png`, those about the median.

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


def _case(segmenter: Segmenter, row: Mapping[Hashable, Any]) -> OverlayCase:
    pixels, given = read_pair(row["path"], row["mask"])
    image = prepare_image(pixels, segmenter.image)[None]
    found = predict_masks(segmenter, image, [(pixels.shape[0], pixels.shape[1])])[0]
    return OverlayCase(pixels, found.mask, given, f"Dice {row['dice']:.3f}, agreement {row['agreement']:.3f}")
