"""Names and values that MLflow accepts: a nested configuration as flat parameters."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from cxr_isnet.errors import hide_passwords

MAX_KEY = 250
MAX_VALUE = 6000
ELLIPSIS = "..."


def flatten(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Flat parameters of a nested configuration, with dotted keys.

    Args:
        parameters: the configuration; leaves of any type, enums by value. A list is one value.

    Returns:
        Keys of at most 250 characters that MLflow accepts, values of at most 6000, the longer ones
        shortened and ended with "..."; passwords in URLs are hidden.
    """
    return {
        safe_key(key): value if len(value) <= MAX_VALUE else value[: MAX_VALUE - len(ELLIPSIS)] + ELLIPSIS
        for key, value in ((key, hide_passwords(value)) for key, value in _leaves(parameters, ""))
    }


def safe_key(name: str) -> str:
    """Name of a parameter, metric or tag that MLflow takes: all but letters, digits and '_-.: /' becomes '_'."""
    safe = re.sub(r"[^\w\-. :/]", "_", name)
    return re.sub(r"/{2,}", "/", safe).strip("/. ")[:MAX_KEY] or "_"


def distinct_keys(names: Iterable[str]) -> dict[str, str]:
    """Names as `safe_key` makes them, each another: the groups "A+B/" and "A&B/" become "A_B/" and "A_B_2/".

    Args:
        names: of metrics, grouped by "/".
    """
    groups: dict[str, str] = {}
    keys: dict[str, str] = {}
    for name in names:
        group, slash, last = name.rpartition("/")
        if slash and group not in groups:
            groups[group] = _unlike(safe_key(group), groups.values())
        keys[name] = _unlike(safe_key(f"{groups[group]}/{last}" if slash else name), keys.values())
    return keys


def _unlike(key: str, taken: Collection[str]) -> str:
    """The key, or with a number behind it where it is taken."""
    return next(k for k in (key, *(f"{key}_{n}" for n in range(2, len(taken) + 3))) if k not in taken)


def _leaves(node: object, prefix: str) -> Iterator[tuple[str, str]]:
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        node = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    if isinstance(node, Mapping):  # an empty one has no leaf
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(node.value if isinstance(node, Enum) else node)
