"""Checks by name. A file in `rules/` that registers a check is found by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cxr_isnet.checks.findings import Finding
from cxr_isnet.checks.survey import Survey
from cxr_isnet.registry import Registry

Find = Callable[[Survey], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One question put to the tables.

    Attributes:
        name: as reports and `Finding.check` give it.
        about: what it looks for, in a sentence.
        find: survey -> findings, in the order in which they are to be read.
    """

    name: str
    about: str
    find: Find


CHECKS: Registry[Check] = Registry("check", "cxr_isnet.checks.rules")
