"""Command line: `cxr-isnet train | evaluate | explain | demo`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from cxr_isnet import __version__
from cxr_isnet.errors import InputError

BAD_INPUT = 2
DIVERGED = 3


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exit status 0; 2 for bad input, told in one message; 3 for a training that diverged."""
    _quiet()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("ignite", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from cxr_isnet.training import DivergedError

    try:
        parser, commands = _parser()
        args = parser.parse_args(argv)
        config, run = commands[args.subcommand]
        settings = _instantiate(parser, args)[args.subcommand]
        result = run(config(**{field.name: settings[field.name] for field in fields(config)}))
    except ArgumentError as error:
        raise SystemExit(_fail(f"{error}\n`cxr-isnet <command> --help` lists the settings", BAD_INPUT)) from None
    except InputError as error:
        raise SystemExit(_fail(error, BAD_INPUT)) from None
    except DivergedError as error:
        raise SystemExit(_fail(error, DIVERGED)) from None
    if isinstance(result, str):
        print(result)


def _instantiate(parser: ArgumentParser, args: Namespace) -> Namespace:
    """The settings as dataclasses. Of one that may be null, jsonargparse wraps what its checks raise."""
    try:
        settings: Namespace = parser.instantiate(args)
    except ValueError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise
    return settings


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


def _parser() -> tuple[ArgumentParser, dict[str, tuple[type[Any], Callable[[Any], None]]]]:
    from cxr_isnet.demo import DemoConfig, demo
    from cxr_isnet.evaluation.commands import EvaluateConfig, ExplainConfig, evaluate, explain
    from cxr_isnet.training import TrainConfig, train

    commands: dict[str, tuple[type[Any], Callable[[Any], Any], str]] = {
        "train": (
            TrainConfig,
            train,
            "train a classifier, judge it on external hospitals, log and register it",
        ),
        "evaluate": (EvaluateConfig, evaluate, "judge a trained classifier on one or more hospitals"),
        "explain": (ExplainConfig, explain, "draw the heatmaps of images"),
        "demo": (
            DemoConfig,
            demo,
            "phantom hospitals and a planted mark: what the project is for, in minutes",
        ),
    }
    parser = ArgumentParser(
        prog="cxr-isnet",
        description="Chest X-ray classifiers that look at the lungs. Research software, not a medical device.",
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    subcommands = parser.add_subcommands()
    for name, (config, _, about) in commands.items():
        sub = ArgumentParser(description=about, exit_on_error=False)
        sub.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the settings below")
        sub.add_class_arguments(config, None)
        subcommands.add_subcommand(name, sub, help=about)
    return parser, {name: (config, run) for name, (config, run, _) in commands.items()}
