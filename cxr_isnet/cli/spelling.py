"""What people type, and what their files say, in the one spelling that the parser takes."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_origin, get_type_hints

from cxr_isnet.cli.command_table import Command, alternatives, find_command, setting_names
from cxr_isnet.config import read_yaml
from cxr_isnet.errors import InputError
from cxr_isnet.shipped import locate, recipes

_OLD_SETTINGS = {
    "start_from": "init_from",
    "gate": "acceptance",
    "tuning_epochs": "bound_estimation_epochs",
    "cuts": "bounds",
}
"""Settings that were renamed in 0.2; the old names are accepted for one release."""


def with_underscores(word: str) -> str:
    """An option's own name as settings are spelt: `--init-from` is `--init_from`."""
    return re.sub(r"^--\w[\w-]*", lambda found: "--" + found[0][2:].replace("-", "_"), word)


def without_old_spellings(arguments: list[str]) -> list[str]:
    """The arguments with what was renamed under its new name, and a warning for each."""
    named = {word.partition("=")[0] for word in arguments}
    if arguments[:1] == ["evaluate"] and "--model" in named:
        _warn_old("evaluate --model", "evaluate-model --model")
        arguments = ["evaluate-model", *arguments[1:]]
    elif arguments[:1] == ["evaluate"] and "--leave_one_site_out" in named:
        _warn_old("evaluate --leave-one-site-out", "leave-one-site-out --experiment")
        experiment = [word.replace("--leave_one_site_out", "--experiment", 1) for word in arguments[1:]]
        arguments = ["leave-one-site-out", *experiment]
    renamed = []
    for word in arguments:
        option, equals, value = word.partition("=")
        parts = option.removeprefix("--").split(".")
        if option.startswith("--") and set(parts) & set(_OLD_SETTINGS) and not _is_setting(arguments, option):
            new = "--" + ".".join(_OLD_SETTINGS.get(part, part) for part in parts)
            _warn_old(option, new)
            word = f"{new}{equals}{value}"
        renamed.append(word)
    return renamed


def _is_setting(arguments: list[str], option: str) -> bool:
    """Whether the command has a setting of this name, which means another thing elsewhere."""
    command = find_command([word for word in arguments if not word.startswith("-")][:2])
    return command is not None and option.removeprefix("--") in setting_names(command.settings(), "")


def _warn_old(old: str, new: str) -> None:
    print(f"cxr-isnet: '{old}' is now '{new}'; the old spelling will be refused in 0.3", file=sys.stderr)


def with_configs(arguments: list[str], command: Command) -> list[str]:
    """The arguments with every `--config` as one word: a file, found by its name if it is a recipe, or its text if it
    holds settings that were renamed. The command's own recipe stands before all other settings."""
    words = iter(arguments)
    found: list[str] = []
    given = False
    for word in words:
        option, equals, value = word.partition("=")
        if option == "--config":
            given = True
            word = f"--config={_config(value if equals else next(words, ''))}"
        found.append(word)
    if command.recipe is not None and not given:
        found.insert(1, f"--config={locate(command.recipe)}")
    return found


def _config(name: str) -> str:
    path = locate(name)
    if not path.is_file():
        close = difflib.get_close_matches(name, recipes(), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Recipes: {', '.join(recipes())}"
        raise InputError(f"config '{name}': there is no such file or recipe. {hint}")
    content = read_yaml(path)
    renamed = _with_new_names(content)
    return str(path) if renamed == content else json.dumps(renamed)


def _with_new_names(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    for key in content:
        if key in _OLD_SETTINGS:
            _warn_old(key, _OLD_SETTINGS[key])
    return {_OLD_SETTINGS.get(key, key): _with_new_names(value) for key, value in content.items()}


def with_lists(arguments: list[str], settings: type[Any]) -> Iterator[str]:
    """The arguments with lists as people type them, `--manifest a.csv b.csv` or `--manifest a.csv --manifest b.csv`, in
    the one form that the parser takes, `--manifest=["a.csv", "b.csv"]`."""
    lists = set(_list_options(settings, ""))
    values: dict[str, list[str]] = {}
    rest: list[str] = []
    option: str | None = None
    for word in arguments:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            option = name if name in lists else None
            if option is None:
                rest.append(word)
            else:
                values.setdefault(option, []).extend([value] if equals else [])
        elif option is None:
            rest.append(word)
        else:
            values[option].append(word)
    yield from rest
    for name, given in values.items():
        whole = len(given) == 1 and given[0][:1] in ("[", "{")
        yield f"{name}={given[0] if whole or given in (['null'], ['']) else json.dumps(given)}"


def _list_options(settings: type[Any], prefix: str) -> Iterator[str]:
    """Options of a config that take a list, as `--data.training`."""
    hints = get_type_hints(settings)
    for field in fields(settings):
        for kind in alternatives(hints[field.name]):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from _list_options(kind, f"{prefix}{field.name}.")
            elif get_origin(kind) is list:
                yield f"--{prefix}{field.name}"
