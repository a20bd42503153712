"""Settings: enums by their values, configs as plain values, things chosen by name or by import path."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import register_type

from cxr_isnet.errors import InputError

MOST_ALIASES = 20
"""Places of a YAML file at which a part of it is repeated; a few dozen can stand for billions of values."""

DEEPEST = 50
"""Lists and mappings of a YAML file inside each other; no config has ten."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Named(Protocol):
    """What can be chosen by name."""

    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)
Settings = TypeVar("Settings")


def choose(kind: str, name: str, items: Iterable[Item]) -> Item:
    """The item called `name`.

    Args:
        kind: what an item is called in the error, e.g. "method".
        name: as the user gave it.
        items: the choices, in the order in which the error lists them.

    Raises:
        InputError: there is none; names the choices and the one that is spelt most like it.
    """
    known = {item.name: item for item in items}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise InputError(f"{kind} is '{name}'{hint}; known: {', '.join(known)}")


def is_import_path(name: str) -> bool:
    """Whether a name is `module.attribute` or `module:attribute` instead of the name of something built in."""
    return bool(re.fullmatch(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)+", name))


def load_object(kind: str, path: str, wanted: type[Any]) -> Any:
    """The object that an import path names; its module is imported, from the working directory too.

    Args:
        kind: what the object is, for the error, e.g. "method".
        path: `module.attribute` or `module:attribute`.
        wanted: its type.

    Raises:
        InputError: there is no such module or attribute, or it is of another type. What the module itself raises when
            it is imported is passed on.
    """
    module_name, _, attribute = path.replace(":", ".").rpartition(".")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise InputError(
            f"{kind} is '{path}': there is no module '{error.name}' in {os.getcwd()} or among the installed packages. "
            "Correct the import path, or install the package"
        ) from error
    found = getattr(module, attribute, None)
    if not isinstance(found, wanted):
        raise InputError(
            f"{kind} is '{path}': '{attribute}' of {module.__file__} is "
            f"{'missing' if found is None else type(found).__name__}, not a {wanted.__name__}. Correct the import path"
        )
    return found


def parse_settings(settings: Any, kind: type[Settings], group: str) -> Settings:
    """Plain values, as a YAML file holds them, as a dataclass of settings.

    Args:
        settings: nested mappings.
        kind: the dataclass.
        group: what begins the settings' names in the error, as "options" in "options.heatmap_weight".

    Raises:
        ValueError: a setting is unknown, or has a value that it cannot have.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, group)
    try:
        parsed: Settings = getattr(parser.instantiate(parser.parse_object({group: settings})), group)
    except (ArgumentError, TypeError) as error:
        raise ValueError(str(error)) from error
    return parsed


def require_extra(what: str, extra: str, *modules: str) -> None:
    """Checks that optional packages are installed.

    Args:
        what: what needs them, for the error, e.g. "format 'onnx'".
        extra: the extra of this package that brings them.
        modules: names under which they are imported.

    Raises:
        InputError: one is missing; says how it is installed.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: pip install 'cxr-isnet[{extra}]'")


def expand_variables(text: str, source: str) -> str:
    """The text with `${NAME}` and `${NAME:-default}` replaced from the environment.

    Raises:
        InputError: a variable without a default is not set; the message begins with `source`.
    """

    def value_of(match: re.Match[str]) -> str:
        name, default = match.groups()
        value = os.environ.get(name) or default
        if value is None:
            raise InputError(f"{source} uses ${{{name}}}, which is not set. Set the variable {name}")
        return str(value)

    return _VARIABLE.sub(value_of, text)


def spell_by_value(*kinds: type[Enum]) -> None:
    """Lets settings of these types be given as their lower-case values, in capitals or not: `cpu`, `CPU`."""
    for kind in kinds:
        register_type(kind, serializer=lambda member: member.value, deserializer=_reader(kind))


def read_yaml(path: Path, what: str = "a readable config", *, text_only: bool = False) -> Any:
    """The content of a YAML file.

    Args:
        path: the file.
        what: what it is to be, in the error.
        text_only: every value is text, in which 03 stays 03.

    Raises:
        InputError: It cannot be read, is not UTF-8 or no YAML, is nested too deeply, or repeats parts of itself more
            often than any config needs.
    """
    try:
        text = path.read_text(encoding="utf-8")
        aliases = depth = 0
        for event in yaml.parse(text):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if aliases > MOST_ALIASES:
                raise ValueError(f"it repeats parts of itself more than {MOST_ALIASES} times, by *NAME; write them out")
            if depth > DEEPEST:  # the parser's time grows with the square of the depth
                raise ValueError(f"it is nested more than {DEEPEST} deep")
        return yaml.load(text, yaml.BaseLoader if text_only else yaml.SafeLoader)  # nosec B506
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not {what}: {error}") from error


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
            known = [str(member.value) for member in kind]
            close = difflib.get_close_matches(str(text).lower(), known, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise ValueError(f"{text!r}{hint} is none of {', '.join(known)}") from None

    return read
