"""The same picture twice: the same bytes, or the same content in another file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cxr_isnet.checks.findings import Finding, Picture
from cxr_isnet.checks.near_duplicates import near_duplicates
from cxr_isnet.checks.pairs import pair_severity, told_apart
from cxr_isnet.checks.registry import CHECKS, Check
from cxr_isnet.checks.survey import Survey


def find(survey: Survey) -> Iterator[Finding]:
    """Groups of identical files, and pairs of different files with the same content."""
    groups: dict[str, list[str]] = {}
    for record in survey.images.values():
        if record.sha256:
            groups.setdefault(record.sha256, []).append(record.path)
    for paths in groups.values():
        if len(paths) > 1:
            yield _finding(survey, paths, "have the same content byte for byte")
    for pair in near_duplicates(survey.pictures, survey.thumbnails):
        paths = [survey.pictures[pair.first].path, survey.pictures[pair.second].path]
        yield _finding(survey, paths, f"show the same picture (agreement {pair.agreement:.3f})")


def _finding(survey: Survey, paths: Sequence[str], what: str) -> Finding:
    places = tuple(place for path in paths for place in survey.places(path))
    message = f"{' and '.join(paths)} {what}{told_apart(survey, paths)}. Keep one of them"
    shown = tuple(Picture(path) for path in paths)
    return Finding("duplicates", pair_severity(survey, paths), message, places, "image", pictures=shown)


CHECKS.register(Check("duplicates", "no picture is there twice: by the bytes of the file, then by its content", find))
