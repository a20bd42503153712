"""Files that are missing, unreadable, changed, blank or tiny."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity, from_problem
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.manifests import checksum_problems, missing_file_problems, repeated_image_problems

SMALLEST_SIDE = 64
"""Pixels of an image's shorter side below which its lungs can hardly be assessed."""


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find missing and repeated files, wrong checksums, unreadable, blank and tiny images."""
    name = " + ".join(scan.tables)
    frame = scan.frame
    for problem in (*missing_file_problems(frame, name), *repeated_image_problems(frame, name)):
        yield from_problem(problem, "files", Severity.ERROR)
    if "sha256" in frame.columns:
        found = [scan.images[image].sha256 if image else "" for image in frame["image"]]
        for problem in checksum_problems(frame, found, name):
            shown = [Picture(image) for image in problem.values]
            yield from_problem(problem, "files", Severity.ERROR, shown)
    yield from _unreadable(scan)
    yield from _blank_or_tiny(scan)


def _unreadable(scan: ManifestScan) -> Iterator[Finding]:
    for record in scan.images.values():
        if record.problem and record.sha256:
            yield Finding("files", Severity.ERROR, record.problem, scan.places(record.path), "image", record.path)


def _blank_or_tiny(scan: ManifestScan) -> Iterator[Finding]:
    for record in scan.images.values():
        rows, columns = record.shape
        if record.blank:
            text, value = "shows nothing: one grey value. Copy the file anew, or drop its row", ""
        elif not record.problem and min(rows, columns) < SMALLEST_SIDE:
            value = f"{rows} x {columns}"
            text = f"is {value} pixels (rows x columns): too small to assess lungs. Give the original, or drop its row"
        else:
            continue
        message = f"{record.path}: {text}"
        shown = (Picture(record.path),)
        yield Finding("files", Severity.WARNING, message, scan.places(record.path), "image", value, shown)


CHECK = Check("files", "every file exists, can be read, has the digest that the table gives, and shows something", find)
