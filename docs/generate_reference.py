"""MkDocs hook: the reference pages that are made of the code: every command's settings, and what is built in."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import docstring_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from torch.nn import Module

with warnings.catch_warnings(action="ignore"):  # MkDocs prints what others import with a warning
    from cxr_isnet import evaluation
    from cxr_isnet.audit.probes import PROBES
    from cxr_isnet.checks.rules import CHECKS
    from cxr_isnet.cli import COMMANDS, Command, Group
    from cxr_isnet.config import as_plain
    from cxr_isnet.deployment.exporters import EXPORTERS
    from cxr_isnet.evaluation.metrics import METRICS
    from cxr_isnet.imaging.acceptance import INTAKE_RULES
    from cxr_isnet.imaging.rejection import RejectionReason
    from cxr_isnet.manifests.sources import SOURCES
    from cxr_isnet.networks import BACKBONES
    from cxr_isnet.objectives.methods import METHODS
    from cxr_isnet.relevance import EPSILON_TABLE
    from cxr_isnet.shipped import recipes

LISTED_ELSEWHERE = {"demo": ("train", "train"), "segment crossvalidate": ("train", "segment train")}
"""Command to its setting that holds all settings of another command, and that command."""


COMMANDS_INTRODUCTION = """`cxr-isnet COMMAND --help` prints what is below. A setting is given as `--name value`
(`--data.image.size 128`; `-` and `_` are the same in a name) or in a YAML file named by `--config`; the command line
overrides the file. Lists are `--manifest a.csv b.csv`, `--manifest a.csv --manifest b.csv` or
`--manifest '[a.csv, b.csv]'`. `--print_config` prints all settings of a call and runs nothing. The exit status is 0; 2
for bad input, which one message explains; 3 for a training whose loss became NaN or infinite."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to those that lie in the folder."""
    pages = {"commands": commands_page(), "built-in": built_in_page(), "report-json": report_json_page()}
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def commands_page() -> str:
    """Every command: what it does, how it is called, all its settings."""
    lines = ["# Commands and settings", "", COMMANDS_INTRODUCTION, ""]
    for name, command in _commands(COMMANDS):
        config = command.settings()
        lines += [f"## {name}", "", f"{_sentence(command.about)}", "", "```text", _usage(name, command), "```", ""]
        lines += _table(
            ("setting", "type", "default", "meaning"), _settings(config, "", *LISTED_ELSEWHERE.get(name, ()))
        )
    return "\n".join(lines)


def built_in_page() -> str:
    """What can be named in a config, and what runs unasked."""
    sections: Sequence[tuple[str, str, Sequence[str], Iterable[Sequence[str]]]] = (
        ("Methods", "`method: NAME` of `train`.", ("name", "what it is", "default network", "needs"), _methods()),
        (
            "Networks",
            "`network: {name: NAME}` of `train`.",
            ("name", "relevance rules", "dropout", "images"),
            _backbones(),
        ),
        ("Recipes", "`--config NAME`; `cxr-isnet recipes` lists them.", ("name",), _recipes()),
        ("Public data sets", "`cxr-isnet manifest build NAME`.", ("name", "data set", "terms"), _sources()),
        ("Checks of manifests", "`cxr-isnet manifest check`.", ("name", "what must hold"), _checks()),
        ("Audit probes", "`cxr-isnet audit`.", ("name", "question", "shortcut found", "limits"), _probes()),
        ("Metrics", "Of `cxr-isnet evaluate`, each with its interval.", ("name", "metric", "value"), _metrics()),
        ("Export formats", "`cxr-isnet export NAME`.", ("name", "what it is"), _exporters()),
        ("Acceptance rules of intake", "", ("rule", "what it asks"), _acceptance()),
        ("Reasons of rejection", "Column `reason` of `quarantine.csv`.", ("reason",), _reasons()),
        (
            "Operations with relevance rules",
            "By LRP-epsilon, z+ and alpha-beta alike; of others, `MissingRuleError` names the first.",
            ("operation",),
            _operations(),
        ),
    )  # fmt: skip
    lines = [
        "# What is built in",
        "",
        "Generated from the tuples in the code; each name is the one a config takes.",
        "",
    ]
    for title, about, columns, rows in sections:
        lines += [f"## {title}", "", about, "", *_table(columns, rows)]
    return "\n".join(lines)


def report_json_page() -> str:
    """The fields of `report.json`, from its JSON schema."""
    schema = json.loads((Path(evaluation.__file__).parent / "study.schema.json").read_text(encoding="utf-8"))
    lines = ["# Fields of report.json", "", schema["description"], ""]
    for name, part in {"the file": schema, **schema["$defs"]}.items():
        if "properties" in part or "required" in part:
            properties = {
                **{key: part.get("additionalProperties") for key in part.get("required", ())},
                **part.get("properties", {}),
            }
            rows = (
                (f"`{key}`", _schema_kind(value), (value or {}).get("description", ""))
                for key, value in properties.items()
            )
            lines += [f"## {name}", "", part.get("description", "") if part is not schema else "", ""]
            lines += _table(("field", "type", "meaning"), rows)
    return "\n".join(lines)


def _schema_kind(part: Any) -> str:
    """A schema's type in words, parts that have a section of their own as links."""
    if not isinstance(part, Mapping):
        return ""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return "number or null" if name == "number" else f"[{name}](#{name})"
    if "anyOf" in part:
        return " or ".join(_schema_kind(one) for one in reversed(part["anyOf"]))
    if "items" in part:
        return f"list of {_schema_kind(part['items'])}"
    if isinstance(part.get("additionalProperties"), Mapping) and "properties" not in part:
        return f"name: {_schema_kind(part['additionalProperties'])}"
    if "required" in part:
        return "object of " + ", ".join(f"`{key}`" for key in part["required"])
    kind = part.get("type", "")
    if "const" in part:
        return f"`{part['const']}`"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _commands(entries: Mapping[str, Command | Group], prefix: str = "") -> Iterator[tuple[str, Command]]:
    for name, entry in entries.items():
        if isinstance(entry, Group):
            yield from _commands(entry.commands, f"{prefix}{name} ")
        else:
            yield prefix + name, entry


def _usage(name: str, command: Command) -> str:
    hints = {field.name: str(field.type) for field in dataclasses.fields(command.settings())}
    places = [place.upper() + (" ..." if hints[place].startswith("list") else "") for place in command.places]
    return " ".join(["cxr-isnet", name, *places, "[--config FILE_OR_RECIPE] [--SETTING VALUE ...]"])


def _settings(config: type[Any], prefix: str, elsewhere: str = "", command: str = "") -> Iterator[Sequence[str]]:
    """A row for each setting, those of nested dataclasses by their dotted names."""
    hints = get_type_hints(config)
    about = _about(config)
    for field in dataclasses.fields(config):
        name, kind = f"{prefix}{field.name}", hints[field.name]
        nested = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and dataclasses.is_dataclass(k)]
        if name == elsewhere:
            yield (
                f"`{name}.*`",
                "",
                "",
                f"{about[field.name]} All settings of [`{command}`](#{command.replace(' ', '-')}).",
            )
            continue
        shown = "" if nested and not _optional(kind) else _kind(kind)
        yield f"`{name}`", shown, "" if nested and not _optional(kind) else _default(field), about.get(field.name, "")
        for inner in nested:
            yield from _settings(inner, f"{name}.")


def _about(config: type[Any]) -> dict[str, str]:
    found = [docstring_parser.parse(kind.__doc__ or "").params for kind in reversed(config.__mro__)]
    return {entry.arg_name: _one_line(entry.description or "") for params in found for entry in params}


def _optional(kind: Any) -> bool:
    return type(None) in get_args(kind)


def _kind(kind: Any) -> str:
    """A type as a user of YAML reads it."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{member.value}`" for member in kind)
    if _optional(kind):
        return " or ".join([_kind(k) for k in get_args(kind) if k is not type(None)] + ["null"])
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    if isinstance(kind, type) and kind.__name__ in names and not get_args(kind):
        return names[kind.__name__]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return "group"
    words = str(kind).replace("typing.", "").replace("<class '", "").replace("'>", "")
    return f"`{words}`"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if field.name == "workers" and value:
        return "one per core"
    return f"`{json.dumps(as_plain(value))}`" if as_plain(value) != "" else "empty"


def _methods() -> Iterator[Sequence[str]]:
    for method in METHODS:
        needs = [*(["relevance rules"] if method.needs_relevance_rules else [])]
        needs += ["lung masks"] if method.needs_masks else []
        needs += ["a network that names its last features"] if method.needs_feature_maps else []
        needs += ["a network of its kind"] if method.network_class is not Module else []
        needs += [method.frozen] if method.frozen else []
        yield f"`{method.name}`", method.about, f"`{method.network}`", ", ".join(needs) or "labels only"


def _backbones() -> Iterator[Sequence[str]]:
    for backbone in BACKBONES:
        size = f"from {backbone.smallest_size} px"
        size += f", multiples of {backbone.size_multiple}" if backbone.size_multiple > 1 else ""
        yield f"`{backbone.name}`", _yes(backbone.has_relevance_rules), _yes(backbone.has_dropout), size


def _recipes() -> Iterator[Sequence[str]]:
    return ([f"`{name}`"] for name in recipes())


def _sources() -> Iterator[Sequence[str]]:
    return ([f"`{source.name}`", source.title, source.licence or "of each image"] for source in SOURCES)


def _checks() -> Iterator[Sequence[str]]:
    return ([f"`{check.name}`", check.about] for check in CHECKS)


def _probes() -> Iterator[Sequence[str]]:
    return ([f"`{p.name}`", f"**{p.title}.** {p.question}", p.rule, p.limits] for p in PROBES)


def _metrics() -> Iterator[Sequence[str]]:
    for metric in METRICS:
        values = [
            *(["of all classes together"] if metric.overall else []),
            *(["of each class"] if metric.by_class else []),
        ]
        yield f"`{metric.name}`", metric.words, ", ".join(values)


def _exporters() -> Iterator[Sequence[str]]:
    return ([f"`{exporter.name}`", exporter.about] for exporter in EXPORTERS)


def _acceptance() -> Iterator[Sequence[str]]:
    return ([f"`{rule.__name__}`", (rule.__doc__ or "").partition("\n")[0]] for rule in INTAKE_RULES)


def _reasons() -> Iterator[Sequence[str]]:
    return ([f"`{reason.value}`"] for reason in RejectionReason)


def _operations() -> Iterator[Sequence[str]]:
    return ([f"`{name}`"] for name in sorted(map(str, EPSILON_TABLE)))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [*("| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines), ""]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
