"""Checks by name. A file in `rules/` that registers a check is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cxr_isnet.checks import rules
from cxr_isnet.checks.findings import Finding
from cxr_isnet.checks.survey import Survey

Find = Callable[[Survey], Iterable[Finding]]

_CHECKS: dict[str, Check] = {}


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


def register(name: str, about: str) -> Callable[[Find], Find]:
    """Adds the decorated function as a check; a name that is taken is an error."""

    def add(find: Find) -> Find:
        if name in _CHECKS:
            raise ValueError(f"check '{name}' is registered twice")
        _CHECKS[name] = Check(name, about, find)
        return find

    return add


def checks() -> tuple[Check, ...]:
    """All checks, by name."""
    for module in pkgutil.iter_modules(rules.__path__, f"{rules.__name__}."):
        importlib.import_module(module.name)
    return tuple(check for _, check in sorted(_CHECKS.items()))
