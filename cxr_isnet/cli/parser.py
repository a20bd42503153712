"""From the words of a command line to the command and its settings."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import MISSING, fields
from typing import Any, NoReturn, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from cxr_isnet import __version__
from cxr_isnet.cli.command_table import COMMANDS, Command, Group, check_command, find_command
from cxr_isnet.cli.spelling import with_configs, with_lists
from cxr_isnet.errors import InputError


def parse(arguments: list[str]) -> tuple[Command, Any]:
    """The command that is asked for, and its settings as its dataclass."""
    words = [word for word in arguments if not word.startswith("-")][:2]
    command = find_command(words)
    check_command(words)
    if command is not None:
        arguments = list(with_lists(with_configs(arguments, command), command.settings()))
    parser = _parser(words)
    if command is not None and any(word.startswith("--print_config") for word in arguments):
        _print_config(parser, arguments)
    args = _instantiate(parser, parser.parse_args(arguments))
    entry, settings = COMMANDS[args.subcommand], args[args.subcommand]
    if isinstance(entry, Group):
        entry, settings = entry.commands[settings.subcommand], settings[settings.subcommand]
    config = entry.settings()
    return entry, config(**{field.name: settings[field.name] for field in fields(config)})


def _print_config(parser: ArgumentParser, arguments: list[str]) -> NoReturn:
    """Prints the settings, and beside those that are null for a default of the method what they come to."""
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        parser.parse_args(arguments)
    text = printed.getvalue()
    settings = yaml.safe_load(text) or {}
    if "method" in settings and "network" in settings and settings["network"] is None:
        from cxr_isnet.objectives import find_method

        text = text.replace("\nnetwork: null\n", f"\nnetwork: null  # {find_method(settings['method']).network}\n")
    print(text, end="")
    raise SystemExit(0)


def _instantiate(parser: ArgumentParser, args: Namespace) -> Namespace:
    """The settings as dataclasses. Of one that may be null, jsonargparse wraps what its checks raise."""
    try:
        settings: Namespace = parser.instantiate(args)
    except ValueError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise
    return settings


def _parser(words: list[str]) -> ArgumentParser:
    """The parser, with the settings of the command that `words` ask for; the others are known by name only."""
    parser = ArgumentParser(
        prog="cxr-isnet",
        description="Chest X-ray classifiers that look at the lungs. Research software, not a medical device.",
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add(parser, COMMANDS, words)
    return parser


def _add(parser: ArgumentParser, commands: Mapping[str, Command | Group], words: list[str]) -> None:
    subcommands = parser.add_subcommands()
    for name, entry in commands.items():
        sub = ArgumentParser(description=entry.about, exit_on_error=False)
        if words[:1] == [name] and isinstance(entry, Command):
            _add_settings(sub, entry)
        subcommands.add_subcommand(name, sub, help=entry.about)
        if words[:1] == [name] and isinstance(entry, Group):
            _add(sub, entry.commands, words[1:])


def _add_settings(parser: ArgumentParser, command: Command) -> None:
    settings = command.settings()
    help_text = "YAML file with any of the settings below, or the name of a recipe (`cxr-isnet recipes` lists them)"
    parser.add_argument("--config", action=ActionConfigFile, help=help_text)
    known = {field.name: field for field in fields(settings)}
    documented = [docstring_parser.parse(kind.__doc__ or "") for kind in reversed(settings.__mro__)]
    about = {entry.arg_name: entry.description for text in documented for entry in text.params}
    for name in command.places:
        default = known[name].default
        several: dict[str, Any] = {"nargs": "+"} if str(known[name].type).startswith("list") else {}
        optional: dict[str, Any] = {} if default is MISSING else {"nargs": "?", "default": default}
        parser.add_argument(name, type=str, help=about[name], **several, **optional)
    skip = {*command.places, "output"} & set(known)
    if "output" in known:
        default = known["output"].default
        needed: dict[str, Any] = {"required": True} if default is MISSING else {"default": default}
        kind = get_type_hints(settings)["output"]
        parser.add_argument("-o", "--output", type=kind, help=about["output"], **needed)
    parser.add_class_arguments(settings, None, skip=skip)
