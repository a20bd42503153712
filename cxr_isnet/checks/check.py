"""What a check of manifests is: a name and a function from a scan to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cxr_isnet.checks.findings import Finding
from cxr_isnet.checks.scan import ManifestScan

Find = Callable[[ManifestScan], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """A check of manifests.

    Attributes:
        name: as in reports and `Finding.check`.
        about: what holds when nothing is found, in a sentence.
        find: scan -> findings, in the order in which they are to be read.
    """

    name: str
    about: str
    find: Find
