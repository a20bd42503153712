"""Command line. Each command is a dataclass of settings and a function that takes it, told here by name."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import Any

import docstring_parser
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from cxr_isnet import __version__
from cxr_isnet.errors import DivergedError, InputError

BAD_INPUT = 2
DIVERGED = 3


@dataclass(frozen=True)
class Command:
    """One command, imported only when it is asked for.

    Attributes:
        about: One line for the help.
        module: Where config and function are.
        config: Name of the dataclass of its settings.
        function: Name of what takes it; returns a text to print, or a text and the exit status.
        places: Settings given by their place instead of by name; a list among them takes one or more, and comes last.
    """

    about: str
    module: str
    config: str
    function: str
    places: tuple[str, ...] = ()

    def settings(self) -> type[Any]:
        settings: type[Any] = getattr(import_module(self.module), self.config)
        return settings

    def run(self, config: Any) -> Any:
        return getattr(import_module(self.module), self.function)(config)


@dataclass(frozen=True)
class Group:
    """Commands that share a first word."""

    about: str
    commands: Mapping[str, Command]


_EVALUATION, _SEGMENTATION = "cxr_isnet.evaluation.commands", "cxr_isnet.segmentation.commands"
COMMANDS: Mapping[str, Command | Group] = {
    "intake": Command(
        "turn a hospital's folder of DICOM files into a manifest, with what was refused and why",
        "cxr_isnet.intake.commands",
        "IntakeConfig",
        "intake",
        ("root",),
    ),
    "manifest": Group(
        "build and check the tables that say which X-ray, whose lungs, which label, which hospital",
        {
            "build": Command(
                "make the manifest of a public data set, of any folder or of any table",
                "cxr_isnet.manifests.commands",
                "BuildConfig",
                "build",
                ("source", "root"),
            ),
            "sources": Command(
                "list the data sets that `build` knows, and how each must be laid out",
                "cxr_isnet.manifests.commands",
                "SourcesConfig",
                "list_sources",
            ),
            "check": Command(
                "look for what would spoil a training; exit status 0 clean, 1 findings, 2 unusable",
                "cxr_isnet.checks.commands",
                "CheckConfig",
                "check",
                ("tables",),
            ),
        },
    ),
    "segment": Group(
        "find the lungs of X-rays that have no mask",
        {
            "train": Command("train a segmenter", _SEGMENTATION, "SegmentTrainConfig", "segment_train"),
            "crossvalidate": Command(
                "judge a segmenter's recipe by patient-level cross-validation",
                _SEGMENTATION,
                "SegmentCrossvalidateConfig",
                "segment_crossvalidate",
            ),
            "evaluate": Command(
                "judge a segmenter on given masks", _SEGMENTATION, "SegmentEvaluateConfig", "segment_evaluate"
            ),
            "predict": Command(
                "fill a manifest's masks; list the doubtful ones and leave them empty",
                _SEGMENTATION,
                "SegmentPredictConfig",
                "segment_predict",
            ),
        },
    ),
    "train": Command(
        "train a classifier, judge it on external hospitals, log and register it",
        "cxr_isnet.training",
        "TrainConfig",
        "train",
    ),
    "evaluate": Command(
        "judge a trained classifier, anybody's predictions, or a recipe that is trained leaving one site out",
        "cxr_isnet.training.commands",
        "EvaluateOrTrainConfig",
        "evaluate_or_train",
    ),
    "audit": Command(
        "look for shortcuts that a model takes past the lungs",
        "cxr_isnet.audit.commands",
        "AuditConfig",
        "audit",
        ("model", "manifest"),
    ),
    "explain": Command("draw the heatmaps of images", _EVALUATION, "ExplainConfig", "explain"),
    "demo": Command(
        "phantom hospitals and a planted mark: what the project is for, in minutes",
        "cxr_isnet.demo",
        "DemoConfig",
        "demo",
    ),
}


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exit status 0; 2 for bad input, told in one message; 3 for a training that diverged."""
    _quiet()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("ignite", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    arguments = [_with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        command, config = _understood(arguments)
        result = command.run(config)
    except ArgumentError as error:
        raise SystemExit(_fail(f"{error}\n`cxr-isnet <command> --help` lists the settings", BAD_INPUT)) from None
    except InputError as error:
        raise SystemExit(_fail(error, BAD_INPUT)) from None
    except DivergedError as error:
        raise SystemExit(_fail(error, DIVERGED)) from None
    text, status = result if isinstance(result, tuple) else (result, 0)
    if isinstance(text, str):
        print(text)
    if status:
        raise SystemExit(status)


def _with_underscores(word: str) -> str:
    """An option's own name as settings are spelt: `--leave-one-site-out` is `--leave_one_site_out`."""
    return re.sub(r"^--\w[\w-]*", lambda found: "--" + found[0][2:].replace("-", "_"), word)


def _understood(arguments: list[str]) -> tuple[Command, Any]:
    """The command that is asked for, and its settings as its dataclass."""
    words = [word for word in arguments if not word.startswith("-")][:2]
    parser = _parser(words)
    args = _instantiate(parser, parser.parse_args(_with_whole_options(parser, arguments)))
    entry, settings = COMMANDS[args.subcommand], args[args.subcommand]
    if isinstance(entry, Group):
        entry, settings = entry.commands[settings.subcommand], settings[settings.subcommand]
    config = entry.settings()
    return entry, config(**{field.name: settings[field.name] for field in fields(config)})


_OPTION = re.compile(r"--((?:\w+\.)*options)\.([\w.]+)(?:=(.*))?", re.DOTALL)


def _with_whole_options(parser: ArgumentParser, arguments: list[str]) -> list[str]:
    """The arguments with every `--options.METHOD.NAME VALUE` put among the method's other options.

    jsonargparse keeps what is in a dictionary when an entry of it is set, but not what is in a dictionary within it:
    a recipe's options would quietly fall back to their defaults.
    """
    rest: list[str] = []
    given: list[tuple[str, list[str], str]] = []
    words = iter(arguments)
    for word in words:
        found = _OPTION.fullmatch(word)
        value = found and (next(words, None) if found[3] is None else found[3])
        if found and value is not None:
            given.append((found[1], found[2].split("."), value))
        else:
            rest.append(word)
    if not given:
        return arguments
    settings = parser.parse_args([word for word in rest if not word.startswith("--print_config")])
    while settings.get("subcommand"):
        settings = settings[settings.subcommand]
    options = {where: deepcopy(settings.get(where)) for where, _, _ in given}
    if not all(isinstance(values, dict) for values in options.values()):
        return arguments  # the command has no such setting, which its parser tells better
    for where, path, value in given:
        inner = options[where]
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise InputError(f"--{where}.{'.'.join(path)}: {name} is {inner!r}, which holds no settings")
        inner[path[-1]] = _value(value)
    return [*rest, *(f"--{where}={json.dumps(values)}" for where, values in options.items())]


def _value(text: str) -> Any:
    """A text as jsonargparse reads it where any type will do: `1e-3` is a number."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=Any)
    return parser.parse_args([f"--value={text}"]).value


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
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the settings below")
    known = {field.name: field for field in fields(settings)}
    documented = [docstring_parser.parse(kind.__doc__ or "") for kind in reversed(settings.__mro__)]
    about = {entry.arg_name: entry.description for text in documented for entry in text.params}
    for name in command.places:
        several: dict[str, Any] = {"nargs": "+"} if str(known[name].type).startswith("list") else {}
        parser.add_argument(name, type=str, help=about[name], **several)
    skip = set(command.places)
    if "output" in known and known["output"].default is MISSING:
        parser.add_argument("-o", "--output", type=str, required=True, help=about["output"])
        skip.add("output")
    parser.add_class_arguments(settings, None, skip=skip)


def _fail(error: object, status: int) -> int:
    print(f"cxr-isnet: {error}", file=sys.stderr)
    return status


def _quiet() -> None:
    """Silences what libraries say of themselves; their faults still raise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
