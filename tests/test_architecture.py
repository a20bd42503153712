"""The rules of the package's structure that import-linter does not check."""

from __future__ import annotations

import ast
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cxr_isnet"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "_shipped" not in path.parts)
FACES = sorted(".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in FILES if path.name == "__init__.py")


def imports(path: Path) -> list[tuple[str, str]]:
    """Module and name of everything that a file imports from this project."""
    tree = ast.parse(path.read_text())
    return [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cxr_isnet.")
        for alias in node.names
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_import_each_others_face(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0]

    deep = [
        f"{module}.{name}"
        for module, name in imports(path)
        if len(parts := module.split(".")) > 2 and parts[1] != own and not (PACKAGE.joinpath(*parts[1:])).is_dir()
    ]

    assert deep == []


@pytest.mark.parametrize("face", FACES)
def test_a_face_offers_what_it_says(face: str) -> None:
    module = import_module(face)

    assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))


def test_no_file_name_stands_for_three_things() -> None:
    names = Counter(path.name for path in FILES if path.name != "__init__.py")

    assert [name for name, count in names.items() if count > 2] == []


def test_every_table_for_people_has_the_one_writer() -> None:
    """`write_csv` defuses what a spreadsheet would run as a formula."""
    writing = re.compile(r"\.to_csv\((?!index=False\)\.encode)|csv\.writer|DictWriter")  # a digest is not a table

    assert [str(path.relative_to(PACKAGE)) for path in FILES if writing.search(path.read_text())] == ["files.py"]
