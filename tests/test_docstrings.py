"""The examples in docstrings run, in a folder where the files that they name exist."""

from __future__ import annotations

import doctest
import json
import pkgutil
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cxr_isnet

NOT_IMPORTED = {"cxr_isnet.__main__", "cxr_isnet.deployment.pyfunc_model"}
"""Modules that do something when they are imported."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(cxr_isnet.__path__, "cxr_isnet.")
    if module.name not in NOT_IMPORTED and "_shipped" not in module.name
)


@pytest.fixture(scope="module")
def example_folder(phantom_manifest: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hospital_a/` with a manifest and images, `runs/first/` of a training on it, `chest.dcm`, an image of it, and
    `scan.png` of stored values with its tags in `scan.json`."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(phantom_manifest.parent, folder / "hospital_a")
    shutil.copytree(trained, folder / "runs" / "first")
    shutil.copy(next((phantom_manifest.parent / "images").iterdir()), folder / "chest.dcm")
    Image.fromarray(np.full((64, 64), 100, np.uint8)).save(folder / "scan.png")
    tags = {"00280004": {"vr": "CS", "Value": ["MONOCHROME2"]}, "00280101": {"vr": "US", "Value": [8]}}
    (folder / "scan.json").write_text(json.dumps(tags))
    return folder


@pytest.mark.parametrize("name", ["cxr_isnet", *MODULES])
def test_examples_in_docstrings_run(name: str, example_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for test in finder.find(module, name) if test.examples]
    if not examples:
        return
    monkeypatch.chdir(example_folder)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)

    for test in examples:
        runner.run(test)

    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", sorted(cxr_isnet.__all__))
def test_what_the_package_offers_has_an_example(name: str) -> None:
    found = getattr(cxr_isnet, name)

    documented = [found, *(vars(found).values() if isinstance(found, type) else ())]

    assert any(">>>" in (getattr(item, "__doc__", None) or "") for item in documented), f"{name} has no example"
