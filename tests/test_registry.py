from importlib import import_module

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.registry import Registry

FILE = """
from dataclasses import dataclass

from {package} import FRUIT


@dataclass
class Fruit:
    name: str


FRUIT.register(Fruit("{name}"))
"""


@pytest.fixture
def fruit(request, tmp_path, monkeypatch) -> Registry:
    """The registry of a folder in which one file registers "pear" and another "apple"."""
    package = f"fruit_of_{request.node.name}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from cxr_isnet.registry import Registry\nFRUIT = Registry('fruit', '{package}')\n"
    )
    for name in ("pear", "apple"):
        (folder / f"file_of_{name}.py").write_text(FILE.format(package=package, name=name))
    monkeypatch.syspath_prepend(tmp_path)
    return import_module(package).FRUIT


def test_what_the_files_of_a_folder_register_is_found_by_itself_and_sorted(fruit):
    assert list(fruit.all()) == ["apple", "pear"]
    assert fruit.get("pear").name == "pear"


def test_an_unknown_name_is_told_with_the_choices(fruit):
    with pytest.raises(InputError, match="fruit is 'peer'; known: apple, pear"):
        fruit.get("peer")


def test_a_name_is_given_once(fruit):
    with pytest.raises(ValueError, match="fruit 'pear' is registered twice"):
        fruit.register(fruit.get("pear"))
