"""What a check of manifests is: a question put to the tables and files, answered by findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cxr_isnet.checks.findings import Finding
from cxr_isnet.checks.scan import ManifestScan

Find = Callable[[ManifestScan], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One question put to the tables.

    Attributes:
        name: as reports and `Finding.check` give it.
        about: what it looks for, in a sentence.
        find: scan -> findings, in the order in which they are to be read.
    """

    name: str
    about: str
    find: Find
