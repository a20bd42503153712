"""HTML report: one page with the flagged images embedded, which can be mailed and printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Contingency, ControlScore, Finding, Picture, Severity
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.checks.text_report import contents, shortened, tally, verdict
from cxr_isnet.evaluation import image_uri, outlined, write_page

EXAMPLES = 30
"""Findings of a check and a severity that the page shows; the JSON report has all."""

PICTURES = 6
"""Pictures shown per finding."""

_TAGS = {"unusable": "bad", "error": "bad", "warning": "warn", "info": "open", "clean": "good"}

_HEIGHT = 160
_OUTLINE = (64, 200, 96)
_FRAME = (255, 176, 0)


@dataclass(frozen=True)
class _Shown:
    """A finding as the template takes it."""

    severity: str
    tag: str
    message: str
    rows: str
    pictures: tuple[tuple[str, str], ...]
    contingency: Contingency | None
    table: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
    controls: tuple[ControlScore, ...]


def write_html_report(path: Path, scan: ManifestScan, groups: Sequence[tuple[Check, Sequence[Finding]]]) -> None:
    """Write the page; whole or not at all.

    Args:
        path: of the page.
        scan: that was checked.
        groups: checks with their findings.
    """
    everything = [finding for _, found in groups for finding in found]
    write_page(
        path,
        "check_report.html",
        tables=scan.tables,
        contents=contents(scan),
        verdict=verdict(everything),
        sections=[
            {
                "name": check.name,
                "about": check.about,
                "tally": tally(found) or "nothing found",
                "worst": _worst(found),
                "tag": _TAGS[_worst(found)],
                "shown": [
                    _shown(scan, finding) for severity in Severity for finding in _of(found, severity)[:EXAMPLES]
                ],
                "more": sum(max(0, len(_of(found, severity)) - EXAMPLES) for severity in Severity),
            }
            for check, found in groups
        ],
    )


def _worst(findings: Sequence[Finding]) -> str:
    return next((severity.value for severity in Severity if _of(findings, severity)), "clean")


def _of(findings: Iterable[Finding], severity: Severity) -> list[Finding]:
    return [finding for finding in findings if finding.severity is severity]


def _shown(scan: ManifestScan, finding: Finding) -> _Shown:
    shown = [(Path(one.image).name, _draw(scan, one)) for one in finding.pictures[:PICTURES]]
    rows = [f"row {place}" for place in finding.places[:PICTURES]]
    more = f" and {len(finding.places) - PICTURES} more" if len(finding.places) > PICTURES else ""
    return _Shown(
        severity=finding.severity.value,
        tag=_TAGS[finding.severity.value],
        message=finding.message,
        rows=", ".join(rows) + more,
        pictures=tuple((name, source) for name, source in shown if source),
        contingency=finding.contingency,
        table=() if finding.contingency is None else _shaded(finding.contingency),
        controls=finding.controls,
    )


def _shaded(table: Contingency) -> tuple[tuple[str, tuple[tuple[int, int], ...]], ...]:
    """Per value and label the count, and its share of the label's patients in percent."""
    totals = [max(1, sum(column)) for column in zip(*table.counts, strict=True)]
    return tuple(
        (value, tuple((count, round(100 * count / total)) for count, total in zip(counts, totals, strict=True)))
        for value, counts in shortened(table)
    )


def _draw(scan: ManifestScan, picture: Picture) -> str:
    """Thumbnail in the proportions of the image with mask and frame, as a data URI; "" for an image without one."""
    record = scan.images.get(picture.image)
    if record is None or record.thumbnail is None:
        return ""
    rows, columns = record.shape
    size = (min(2 * _HEIGHT, max(1, round(_HEIGHT * columns / rows))), _HEIGHT)
    shown = Image.fromarray(record.thumbnail).resize(size, Image.Resampling.BILINEAR)
    mask = scan.masks[picture.mask].thumbnail if picture.mask else None
    if mask is not None:
        shown = outlined(shown, mask, _OUTLINE)
    if picture.box is not None:
        shown = shown.convert("RGB")
        left, top, width, height = picture.box
        corners = (left * size[0], top * size[1], (left + width) * size[0] - 1, (top + height) * size[1] - 1)
        ImageDraw.Draw(shown).rectangle([max(0, corner) for corner in corners], outline=_FRAME, width=2)
    return image_uri(shown)
