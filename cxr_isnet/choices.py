"""Closed sets of settings, spelt by their values in YAML files and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from jsonargparse.typing import register_type


def spell_by_value(*kinds: type[Enum]) -> None:
    """Lets settings of these types be given as their lower-case values, in capitals or not: `cpu`, `CPU`."""
    for kind in kinds:
        register_type(kind, serializer=lambda member: member.value, deserializer=_reader(kind))


def _reader(kind: type[Enum]) -> Callable[[str], Enum]:
    def read(text: str) -> Enum:
        try:
            return kind(str(text).lower())
        except ValueError:
            known = ", ".join(str(member.value) for member in kind)
            raise ValueError(f"{text!r} is none of {known}") from None

    return read
