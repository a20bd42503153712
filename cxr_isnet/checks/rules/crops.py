"""Pictures that are a part of another picture."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_isnet.checks.crops import find_crops
from cxr_isnet.checks.findings import Finding, Picture, Severity
from cxr_isnet.checks.near_duplicates import near_duplicates
from cxr_isnet.checks.pairs import pair_severity, told_apart
from cxr_isnet.checks.registry import CHECKS, Check
from cxr_isnet.checks.survey import Survey


def find(survey: Survey) -> Iterator[Finding]:
    """Pairs of part and whole; those that `duplicates` reports are left out."""
    count = len(survey.pictures)
    if count > survey.crop_limit:
        yield Finding(
            "crops",
            Severity.INFO,
            f"crops were not searched for: {count} images are more than crop_limit {survey.crop_limit}, and the time "
            "grows with the square of their number. Raise crop_limit to search all the same",
        )
        return
    reported = {(pair.first, pair.second) for pair in near_duplicates(survey.pictures, survey.thumbnails)}
    for crop in find_crops(survey.thumbnails):
        if (min(crop.part, crop.whole), max(crop.part, crop.whole)) in reported:
            continue
        part, whole = survey.pictures[crop.part].path, survey.pictures[crop.whole].path
        paths = [part, whole]
        _, _, width, height = crop.window
        message = (
            f"{part} is a crop of {whole}, {100 * width:.0f}% of its width and {100 * height:.0f}% of its height "
            f"(agreement {crop.agreement:.3f}){told_apart(survey, paths)}. Keep one of them"
        )
        places = (*survey.places(part), *survey.places(whole))
        shown = (Picture(part), Picture(whole, box=crop.window))
        yield Finding("crops", pair_severity(survey, paths), message, places, "image", pictures=shown)


CHECKS.register(Check("crops", "no picture is cut out of another, or shifted against it", find))
