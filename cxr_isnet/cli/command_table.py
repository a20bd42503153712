"""The commands: each a dataclass of settings and a function that takes it, imported only when it is asked for."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

from cxr_isnet.errors import InputError


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


def find_command(words: list[str]) -> Command | None:
    """The command of the first words; None where they name none."""
    entry = COMMANDS.get(words[0]) if words else None
    if isinstance(entry, Group):
        return entry.commands.get(words[1]) if len(words) > 1 else None
    return entry


def check_command(words: list[str]) -> None:
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


def setting_names(settings: type[Any], prefix: str) -> Iterator[str]:
    """Names of all settings of a config, as `data.image.size`."""
    hints = get_type_hints(settings)
    for field in fields(settings):
        yield f"{prefix}{field.name}"
        for kind in alternatives(hints[field.name]):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from setting_names(kind, f"{prefix}{field.name}.")


def alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (typing.Union, type(int | str)) else (kind,)
