"""The same picture twice: the same bytes, or the same content in another file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture
from cxr_isnet.checks.near_duplicates import near_duplicates
from cxr_isnet.checks.pairs import differences_text, pair_severity
from cxr_isnet.checks.scan import ManifestScan


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Groups of identical files, and pairs of different files with the same content."""
    groups: dict[str, list[str]] = {}
    for record in scan.images.values():
        if record.sha256:
            groups.setdefault(record.sha256, []).append(record.path)
    for paths in groups.values():
        if len(paths) > 1:
            yield _finding(scan, paths, "have the same content byte for byte")
    for pair in near_duplicates(scan.pictures, scan.thumbnails):
        paths = [scan.pictures[pair.first].path, scan.pictures[pair.second].path]
        yield _finding(scan, paths, f"show the same picture (agreement {pair.agreement:.3f})")


def _finding(scan: ManifestScan, paths: Sequence[str], what: str) -> Finding:
    places = tuple(place for path in paths for place in scan.places(path))
    message = f"{' and '.join(paths)} {what}{differences_text(scan, paths)}. Keep one of them"
    shown = tuple(Picture(path) for path in paths)
    return Finding("duplicates", pair_severity(scan, paths), message, places, "image", pictures=shown)


CHECK = Check("duplicates", "no picture is there twice: by the bytes of the file, then by its content", find)
