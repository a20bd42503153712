"""Things by name, each added by a file of its own: methods, sources, checks. A new file is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Generic, Protocol, TypeVar

from cxr_isnet.errors import InputError


class Named(Protocol):
    """What can be registered."""

    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)


class Registry(Generic[Item]):
    """What the files of a folder register; they are imported when something is looked up.

    Args:
        kind: What an item is called in errors, e.g. "method".
        package: The folder, e.g. "cxr_isnet.objectives".
    """

    def __init__(self, kind: str, package: str) -> None:
        self._kind = kind
        self._package = package
        self._items: dict[str, Item] = {}

    def register(self, item: Item) -> None:
        """Adds an item; a name that is taken is an error."""
        if item.name in self._items:
            raise ValueError(f"{self._kind} '{item.name}' is registered twice")
        self._items[item.name] = item

    def all(self) -> dict[str, Item]:
        """All items, sorted by name."""
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__, f"{self._package}."):
            importlib.import_module(module.name)
        return dict(sorted(self._items.items()))

    def get(self, name: str) -> Item:
        """The item `name`; raises `InputError` naming the choices."""
        known = self.all()
        if name not in known:
            raise InputError(f"{self._kind} is '{name}'; known: {', '.join(known)}")
        return known[name]
