"""This package imported without the libraries that only its work needs, as documentation tools import code.

`cxr-isnet train --help` tells names, defaults and docstrings. torch, MONAI and MLflow take seven seconds of CPU to
import, and have no part in the answer. While `stand_ins` holds, importing one of them gives a module all of whose
attributes are empty classes: enough for code that subclasses, decorates, annotates and fills tables, and for nothing
that computes.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HEAVY = ("torch", "monai", "ignite", "mlflow", "pandas", "pandera", "sklearn", "scipy", "matplotlib")


class _StandInType(ABCMeta):
    """Of a class whose missing attributes are such classes; calling it makes an instance, or decorates."""

    def __getattr__(cls, name: str) -> Any:
        return _stand_in(f"{cls.__qualname__}.{name}")

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else super().__call__()

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


class _StandIn(metaclass=_StandInType):
    """A class, a function, a decorator or an object of a library that is not imported."""

    def __class_getitem__(cls, item: Any) -> Any:
        return cls

    def __getattr__(self, name: str) -> Any:
        return _stand_in(f"{type(self).__qualname__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args else self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _stand_in(f"{self.__name__}.{name}")


@cache
def _stand_in(path: str) -> Any:
    """The one class of a dotted path, however it was reached.

    Raises:
        AttributeError: For a private name: what Python, `abc` and `typing` look for on a class must be missing.
    """
    if path.rpartition(".")[2].startswith("_") and path != "torch._dynamo":
        raise AttributeError(path)
    return _StandInType(path, (_StandIn,), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] in HEAVY else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


@contextmanager
def stand_ins() -> Iterator[None]:
    """Inside it this package is imported with stand-ins for `HEAVY`; what was imported so is forgotten after it.

    Where one of them is imported already it changes nothing: their time is spent.
    """
    if any(name in sys.modules for name in HEAVY):
        yield
        return
    before = set(sys.modules)
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        own = __name__.partition(".")[0]
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == own or isinstance(sys.modules[name], _StandInModule):
                del sys.modules[name]
