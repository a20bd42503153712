"""README and documentation: what they show is true of the code."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cxr_isnet.cli.parser import parse
from cxr_isnet.cli.spelling import with_underscores, without_old_spellings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "archive" not in p.parts)]
FENCE = re.compile(
    r"(?:<!-- test: (?P<mark>[\w .]+) -->\n)?^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.S | re.M
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Path of the page.
        language: As the fence says.
        code: What is between the fences.
        mark: Of the comment `<!-- test: MARK -->` before it.
        title: File that it stands for.
    """

    page: str
    language: str
    code: str
    mark: str
    title: str


def blocks(language: str) -> Iterator[Block]:
    for path in PAGES:
        for found in FENCE.finditer(path.read_text(encoding="utf-8")):
            if found["language"] == language:
                title = re.search(r'title="([^"]+)"', found["info"])
                page = path.relative_to(ROOT).as_posix()
                yield Block(page, language, found["code"], found["mark"] or "", title[1] if title else "")


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every `cxr-isnet ...` line, continued lines joined, with the page it stands on; the same words once."""
    seen = set()
    for block in blocks("bash"):
        for line in re.sub(r"\\\n", " ", block.code).splitlines():
            words = tuple(shlex.split(line, comments=True))
            if words[:1] == ("cxr-isnet",):
                shown = words[1:]
            elif "cxr_isnet" in words:  # torchrun ... -m cxr_isnet
                shown = words[words.index("cxr_isnet") + 1 :]
            else:
                continue
            if shown not in seen:
                yield block.page, shown
            seen.add(shown)


COMMANDS = list(commands())
PYTHON = list(blocks("python"))


@pytest.fixture
def documented_files(tmp_path, monkeypatch):
    """The working directory holds the files that the pages show: configs, column mappings, modules."""
    for block in [*blocks("yaml"), *PYTHON]:
        if block.title:
            (tmp_path / block.title).write_text(block.code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_recipes").mkdir()
    (tmp_path / "my_recipes" / "demo.yaml").write_text((ROOT / "pipelines" / "demo.yaml").read_text())
    return tmp_path


def test_the_pages_show_commands_and_examples():
    assert len(COMMANDS) > 30
    assert sum(bool(block.mark) for block in PYTHON) >= 3
    assert ("demo",) in [words for page, words in COMMANDS if page == "README.md"]


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)[:60]}" for page, words in COMMANDS]
)
def test_every_command_that_is_shown_is_understood(page, words, documented_files, capsys):
    arguments = [with_underscores(word) for word in words if word != "--print_config"]

    parse(without_old_spellings(arguments))

    assert capsys.readouterr().err == ""  # no old spelling


@pytest.mark.parametrize("block", PYTHON, ids=[f"{b.page}: {b.code[:40]!r}" for b in PYTHON])
def test_every_name_that_an_example_imports_is_there(block):
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cxr_isnet"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("block", [b for b in PYTHON if b.mark], ids=lambda b: f"{b.page}: {b.title or b.code[:30]!r}")
def test_examples_marked_runnable_run(block, documented_files):
    if block.title:
        importlib.import_module(Path(block.title).stem)
    else:
        exec(compile(block.code, block.page, "exec"), {"__name__": "__main__"})


def test_the_method_and_the_network_shown_are_used_by_import_path(documented_files):
    import torch

    from cxr_isnet.networks import NetworkConfig
    from cxr_isnet.objectives.methods import find_method

    method = find_method("my_method.METHOD")
    objective = method.objective(NetworkConfig("my_network.BACKBONE"), 2, 32, method.options(weight=0.1))
    batch = {
        "image": torch.rand(3, 1, 32, 32),
        "mask": torch.zeros(3, 1, 32, 32),
        "has_mask": torch.tensor([True, True, False]),
        "label": torch.tensor([0, 1, 0]),
    }

    terms = objective(batch)
    terms["loss"].backward()

    assert terms["penalty"] > 0
    assert all(parameter.grad is not None for parameter in objective.network.parameters())


def walk_steps() -> Iterator[tuple[str, str]]:
    """(function, its file) of the walks in docs/architecture.md, where the columns name as many files or one."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walks = text[text.index("## A manifest's path") : text.index("## Decisions")]
    for line in walks.splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[2]:
            yield from ((name, files) for name in cells[1] for files in [" ".join(cells[2])])


@pytest.mark.parametrize(("name", "files"), list(walk_steps()))
def test_every_function_of_the_walks_is_in_a_file_named_beside_it(name, files):
    last = name.rpartition(".")[2]

    defined = {
        node.name
        for file in files.split()
        for node in ast.walk(ast.parse((ROOT / "cxr_isnet" / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }

    assert last in defined


def test_files_that_the_pages_name_exist():
    named = {
        (path.relative_to(ROOT).as_posix(), file)
        for path in PAGES
        for file in re.findall(r"`((?:cxr_isnet|tests)/[\w/]+(?:\.\w+)*/?)`", path.read_text(encoding="utf-8"))
    }

    assert [(page, file) for page, file in sorted(named) if not (ROOT / file).exists()] == []
