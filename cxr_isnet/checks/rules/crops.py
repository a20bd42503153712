"""Images that are crops of others."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.crops import find_crops
from cxr_isnet.checks.findings import Finding, Picture, Severity
from cxr_isnet.checks.rules.duplicates import differences_text, pair_severity
from cxr_isnet.checks.scan import ManifestScan


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find pairs of crop and whole; those that `duplicates` reports are left out."""
    count = len(scan.comparable)
    if count > scan.crop_limit:
        yield Finding(
            "crops",
            Severity.INFO,
            f"crops were not searched for: {count} images are more than crop_limit {scan.crop_limit}, and the time "
            "grows with the square of their number. Raise crop_limit to search all the same",
        )
        return
    reported = {(pair.first, pair.second) for pair in scan.near_duplicates}
    for crop in find_crops(scan.thumbnails):
        if (min(crop.part, crop.whole), max(crop.part, crop.whole)) in reported:
            continue
        part, whole = scan.comparable[crop.part].path, scan.comparable[crop.whole].path
        paths = [part, whole]
        _, _, width, height = crop.window
        message = (
            f"{part} is a crop of {whole}, {100 * width:.0f}% of its width and {100 * height:.0f}% of its height "
            f"(correlation {crop.correlation:.3f}){differences_text(scan, paths)}. Keep one of them"
        )
        places = (*scan.places(part), *scan.places(whole))
        shown = (Picture(part), Picture(whole, box=crop.window))
        yield Finding("crops", pair_severity(scan, paths), message, places, "image", pictures=shown)


CHECK = Check("crops", "no image is a crop of another, or shifted against it", find)
