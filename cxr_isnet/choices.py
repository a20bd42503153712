"""Settings as text: closed sets are spelt by their values, in YAML files, on the command line and in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from jsonargparse.typing import register_type


def spell_by_value(*kinds: type[Enum]) -> None:
    """Lets settings of these types be given as their lower-case values, in capitals or not: `cpu`, `CPU`."""
    for kind in kinds:
        register_type(kind, serializer=lambda member: member.value, deserializer=_reader(kind))


def as_plain(value: Any) -> Any:
    """A config as dictionaries, lists, numbers and strings, for YAML, MLflow and comparisons."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "__dataclass_fields__"):
        return {name: as_plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return value


def _reader(kind: type[Enum]) -> Callable[[str], Enum]:
    def read(text: str) -> Enum:
        try:
            return kind(str(text).lower())
        except ValueError:
            known = ", ".join(str(member.value) for member in kind)
            raise ValueError(f"{text!r} is none of {known}") from None

    return read
