"""Command line: a list of commands, each a dataclass of settings and a function that takes it."""

from __future__ import annotations

import difflib
import errno
import io
import json
import logging
import os
import re
import sys
import typing
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from cxr_isnet import __version__
from cxr_isnet.config import is_import_path, read_yaml
from cxr_isnet.errors import DivergedError, InputError, Terminated, is_of_the_disk, sigterm_interrupts
from cxr_isnet.files import SafeFormatter, without_controls
from cxr_isnet.shipped import locate, recipes
from cxr_isnet.stand_ins import stand_ins

BAD_INPUT = 2
DIVERGED = 3
INTERRUPTED = 130
TERMINATED = 143
CLOSED_PIPE = 141


@dataclass(frozen=True)
class Command:
    """One command, imported only when it is asked for.

    Attributes:
        about: One line for the help.
        module: Where config and function are, below `cxr_isnet.commands`.
        config: Name of the dataclass of its settings.
        function: Name of what takes it; returns a text to print, or a text and the exit status.
        places: Settings given by their place instead of by name; one that has a default may be left out, and a list
            among them takes one or more, and comes last.
        recipe: Name of the recipe that is taken where no `--config` is given.
        goes_on: How one that was interrupted goes on, as the end of a sentence; "" where it begins again.
        lists: It only tells what stands in the code.
    """

    about: str
    module: str
    config: str
    function: str
    places: tuple[str, ...] = ()
    recipe: str | None = None
    goes_on: str = ""
    lists: bool = False

    def settings(self) -> type[Any]:
        settings: type[Any] = getattr(import_module(f"cxr_isnet.commands.{self.module}"), self.config)
        return settings

    def run(self, config: Any) -> Any:
        return getattr(import_module(f"cxr_isnet.commands.{self.module}"), self.function)(config)


@dataclass(frozen=True)
class Group:
    """Commands that share a first word."""

    about: str
    commands: Mapping[str, Command]


COMMANDS: Mapping[str, Command | Group] = {
    "demo": Command(
        "phantom hospitals and a planted mark: what the project is for, in minutes",
        "demo",
        "DemoConfig",
        "demo",
        recipe="demo",
    ),
    "recipes": Command(
        "list the configs that come with the package, or copy them to be changed", "recipes", "RecipesConfig", "run"
    ),
    "intake": Command(
        "turn a hospital's folder of DICOM files into a de-identified manifest, and say what was rejected and why",
        "intake",
        "IntakeConfig",
        "intake",
        ("root",),
        goes_on="give the same command again",
    ),
    "manifest": Group(
        "build and check the tables that say which X-ray, whose lungs, which label, which hospital",
        {
            "build": Command(
                "make the manifest of a public data set, of any folder or of any table",
                "manifest",
                "BuildConfig",
                "build",
                ("source", "root"),
            ),
            "sources": Command(
                "list the data sets that `build` knows, and how each must be laid out",
                "manifest",
                "SourcesConfig",
                "list_sources",
            ),
            "check": Command(
                "look for what would spoil a training; exit status 0 clean, 1 findings, 2 unusable",
                "manifest",
                "CheckConfig",
                "check",
                ("tables",),
            ),
        },
    ),
    "segment": Group(
        "predict the lung masks of X-rays that have none",
        {
            "train": Command(
                "train a segmenter",
                "segment",
                "SegmentTrainConfig",
                "segment_train",
                goes_on="give the same command with --resume true",
            ),
            "crossvalidate": Command(
                "evaluate a segmenter's config by patient-level cross-validation",
                "segment",
                "SegmentCrossvalidateConfig",
                "segment_crossvalidate",
                goes_on="give the same command with --resume true",
            ),
            "evaluate": Command(
                "evaluate a segmenter on given masks", "segment", "SegmentEvaluateConfig", "segment_evaluate"
            ),
            "predict": Command(
                "complete a manifest's masks; list the flagged ones and leave them empty",
                "segment",
                "SegmentPredictConfig",
                "segment_predict",
                goes_on="give the same command again",
            ),
        },
    ),
    "methods": Command(
        "list the training methods, or the settings of one with their meaning",
        "methods",
        "MethodsConfig",
        "list_methods",
        ("name",),
        lists=True,
    ),
    "networks": Command(
        "list the networks and what each can do", "methods", "NetworksConfig", "list_networks", ("name",), lists=True
    ),
    "train": Command(
        "train a classifier, evaluate it on external hospitals, log and register it",
        "train",
        "TrainConfig",
        "run",
        goes_on="give the same command with --resume true",
    ),
    "predict": Command(
        "predict images, folders or manifests: a table with one row for each image",
        "predict",
        "PredictConfig",
        "predict",
        ("model", "inputs"),
        goes_on="give the same command again",
    ),
    "listen": Command(
        "a DICOM node: score what an archive sends, send the results back", "listen", "ListenConfig", "listen"
    ),
    "evaluate": Command(
        "evaluate and compare tables of predictions, whoever made them",
        "evaluate",
        "EvaluateConfig",
        "evaluate",
    ),
    "evaluate-model": Command(
        "predict the hospitals of manifests with a trained classifier, and evaluate it there",
        "evaluate_model",
        "EvaluateModelConfig",
        "evaluate_model",
    ),
    "leave-one-site-out": Command(
        "train once for every hospital, on the others, and evaluate on that one",
        "leave_one_site_out",
        "LeaveOneSiteOutConfig",
        "leave_one_site_out",
        goes_on="give the same command with --resume true",
    ),
    "compare": Command(
        "train several methods with several seeds on the same data, and compare them on external hospitals",
        "compare",
        "CompareConfig",
        "compare",
        goes_on="give the same command again",
    ),
    "audit": Command(
        "look for shortcuts that a model takes past the lungs",
        "audit",
        "AuditConfig",
        "audit",
        ("model", "manifest"),
    ),
    "register": Command(
        "register a run's model; it becomes the champion if it passes a gate; exit status 1 if it does not",
        "register",
        "RegisterConfig",
        "register_run",
        ("run",),
    ),
    "rollback": Command(
        "give the alias of the champion back to the version before",
        "register",
        "RollbackConfig",
        "roll_back",
        ("name",),
    ),
    "serve": Command(
        "answer for images over HTTP, with MLflow's scoring protocol", "serve", "ServeConfig", "serve", ("model",)
    ),
    "explain": Command("draw the heatmaps of images", "explain", "ExplainConfig", "explain"),
    "export": Command(
        "write a trained classifier in a format that other programs run",
        "export",
        "ExportConfig",
        "export",
        ("format", "model"),
    ),
}

_OLD_SETTINGS = {
    "start_from": "init_from",
    "gate": "acceptance",
    "tuning_epochs": "bound_estimation_epochs",
    "cuts": "bounds",
}
"""Settings that were renamed in 0.2; the old names are accepted for one release."""


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exit status 0; 2 for bad input, reported in one message; 3 for a training that diverged; 130 and 143
    for Ctrl-C and SIGTERM; 141 without a word where a reader closes early, as `| head`."""
    try:
        try:
            _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED_PIPE) from None


def _run(argv: list[str] | None) -> None:
    _quiet()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(SafeFormatter("%(message)s"))
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR  # of torchrun, one process tells
    logging.basicConfig(level=level, handlers=[log], force=True)
    for noisy in ("ignite", "mlflow", "alembic", "matplotlib", "pynetdicom"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # of each retry; what fails in the end is told
    arguments = [_with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)]
    command = None
    try:
        arguments = _without_old_spellings(arguments)
        with stand_ins() if _only_tells(arguments) else nullcontext():
            command, config = _parse(arguments)
            with sigterm_interrupts():
                result = command.run(config)
    except ArgumentError as error:
        raise SystemExit(_fail(f"{_reason(str(error))}{_hint(str(error), arguments)}", BAD_INPUT)) from None
    except InputError as error:
        raise SystemExit(_fail(error, BAD_INPUT)) from None
    except DivergedError as error:
        raise SystemExit(_fail(error, DIVERGED)) from None
    except KeyboardInterrupt as error:
        status = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        raise SystemExit(_fail(f"interrupted{_how_to_go_on(command)}", status)) from None
    except OSError as error:
        if not is_of_the_disk(error):
            raise
        cure = "Make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Correct the permissions or the path"
        text = f"{error.filename or 'a file'}: {error.strerror}. {cure}{_how_to_go_on(command)}"
        raise SystemExit(_fail(text, BAD_INPUT)) from None
    text, status = result if isinstance(result, tuple) else (result, 0)
    if text:
        print(without_controls(text))
    if status:
        raise SystemExit(status)


def _only_tells(arguments: list[str]) -> bool:
    """Whether the answer stands in the code of this package, so that no library takes part in it."""
    command = _command([word for word in arguments if not word.startswith("-")][:2])
    listed = command is not None and command.lists and not any(is_import_path(word) for word in arguments)
    return listed or bool({"-h", "--help"} & set(arguments))


def _with_underscores(word: str) -> str:
    """An option's own name as settings are spelt: `--init-from` is `--init_from`."""
    return re.sub(r"^--\w[\w-]*", lambda found: "--" + found[0][2:].replace("-", "_"), word)


def _without_old_spellings(arguments: list[str]) -> list[str]:
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
    command = _command([word for word in arguments if not word.startswith("-")][:2])
    return command is not None and option.removeprefix("--") in _options(command.settings(), "")


def _warn_old(old: str, new: str) -> None:
    print(f"cxr-isnet: '{old}' is now '{new}'; the old spelling will be refused in 0.3", file=sys.stderr)


def _parse(arguments: list[str]) -> tuple[Command, Any]:
    """The command that is asked for, and its settings as its dataclass."""
    words = [word for word in arguments if not word.startswith("-")][:2]
    command = _command(words)
    _check_words(words)
    if command is not None:
        arguments = list(_with_lists(_with_configs(arguments, command), command.settings()))
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


def _check_words(words: list[str]) -> None:
    """Refuses a command that there is not, and names the one that is spelt most like it."""
    known: Mapping[str, Command | Group] = COMMANDS
    for number, word in enumerate(words):
        if word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            hint = f". Did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
            raise InputError(f"{' '.join(words[: number + 1])!r} is no command{hint}")
        entry = known[word]
        if isinstance(entry, Command):
            return
        known = entry.commands


def _command(words: list[str]) -> Command | None:
    """The command of the first words; None where they name none."""
    entry = COMMANDS.get(words[0]) if words else None
    if isinstance(entry, Group):
        return entry.commands.get(words[1]) if len(words) > 1 else None
    return entry


def _with_configs(arguments: list[str], command: Command) -> list[str]:
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


def _with_lists(arguments: list[str], settings: type[Any]) -> Iterator[str]:
    """The arguments with lists as people type them, `--manifest a.csv b.csv` or `--manifest a.csv --manifest b.csv`, in
    the one form that the parser takes, `--manifest=["a.csv", "b.csv"]`."""
    lists = set(_lists(settings, ""))
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


def _lists(settings: type[Any], prefix: str) -> Iterator[str]:
    """Options of a config that take a list, as `--data.training`."""
    hints = get_type_hints(settings)
    for field in fields(settings):
        for kind in _alternatives(hints[field.name]):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from _lists(kind, f"{prefix}{field.name}.")
            elif get_origin(kind) is list:
                yield f"--{prefix}{field.name}"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (typing.Union, type(int | str)) else (kind,)


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


def _reason(error: str) -> str:
    """What is wrong with a setting, without the parser's account of all types that were tried."""
    key = re.search(r'Parser key "([^"]+)":\s+Does not validate against any of the Union subtypes', error)
    _, _, account = error.partition("Errors:\n")
    tried = re.split(r"^ *- ", account.partition("Given value type")[0], flags=re.MULTILINE)[1:]
    reasons = [_innermost(item) for item in tried if not item.startswith("Expected a <class 'NoneType'>")]
    return error if key is None or not reasons else f"{key[1]}: {'; or '.join(reasons)}"


def _innermost(account: str) -> str:
    """The last line of one type's account, behind the settings inside it that it is about."""
    last = re.sub(r"^Not of type \w+: ", "", account.strip().splitlines()[-1].strip())
    return ": ".join([*re.findall(r'Parser key "([^"]+)"', account), last])


def _hint(error: str, arguments: list[str]) -> str:
    """What to do about a setting that is not understood: which is spelt most like it, and where all are listed."""
    words = [word for word in arguments if not word.startswith("-")][:2]
    command = _command(words)
    unknown = re.search(r"(?:does not accept option '|unrecognized arguments: --|ambiguous option: --)([\w.]+)", error)
    close: list[str] = []
    if command is not None and unknown is not None:
        close = difflib.get_close_matches(unknown[1], _options(command.settings(), ""), n=1, cutoff=0.7)
    return f"{f'. Did you mean {close[0]!r}?' if close else ''}\n`cxr-isnet <command> --help` lists the settings"


def _options(settings: type[Any], prefix: str) -> Iterator[str]:
    """Names of all settings of a config, as `data.image.size`."""
    hints = get_type_hints(settings)
    for field in fields(settings):
        yield f"{prefix}{field.name}"
        for kind in _alternatives(hints[field.name]):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from _options(kind, f"{prefix}{field.name}.")


def _how_to_go_on(command: Command | None) -> str:
    return f"; to go on, {command.goes_on}" if command is not None and command.goes_on else ""


def _fail(error: object, status: int) -> int:
    print(without_controls(f"cxr-isnet: {error}"), file=sys.stderr)
    return status


def _quiet() -> None:
    """Silences what libraries say of themselves; their faults still raise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="The y_prob values do not sum to one", category=UserWarning)
