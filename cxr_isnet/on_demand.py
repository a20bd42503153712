"""Names that a package offers and imports only when they are used."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def names_on_demand(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """A package's `__getattr__` (PEP 562), for names whose modules take long, or need much, to be imported.

    Type checkers know the names by imports under `TYPE_CHECKING`.

    Args:
        package: `__name__` of the package.
        modules: module inside the package -> the names that it offers.

    Example:
        >>> load = names_on_demand("cxr_isnet", {"errors": ("InputError",)})
        >>> load("InputError").__name__
        'InputError'
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> object:
        if name in module_of:
            return getattr(import_module(f"{package}.{module_of[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
