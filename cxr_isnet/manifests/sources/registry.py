"""Sources by name. A file in this folder that registers a source is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import sources as package
from cxr_isnet.manifests.sources.source import Source

_SOURCES: dict[str, Source] = {}


def register(source: Source) -> Source:
    """Adds a source; a name that is taken is an error."""
    if source.name in _SOURCES:
        raise ValueError(f"source '{source.name}' is registered twice")
    _SOURCES[source.name] = source
    return source


def sources() -> Mapping[str, Source]:
    """All sources by name."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return dict(sorted(_SOURCES.items()))


def get_source(name: str) -> Source:
    """The source `name`; raises `InputError` naming the choices."""
    known = sources()
    if name not in known:
        raise InputError(f"source is '{name}'; known: {', '.join(known)}")
    return known[name]
