"""`cxr-isnet recipes`: the configs that come with the package."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.shipped import recipes


@dataclass(frozen=True)
class RecipesConfig:
    """The configs that come with the package, as `cxr-isnet train --config NAME` takes them.

    Attributes:
        copy: Folder to copy them to, to be changed; null lists them.
    """

    copy: str | None = None


def run(config: RecipesConfig) -> str:
    """Lists the recipes with what each is, or copies them; a file that is there is never replaced."""
    found = recipes()
    if config.copy is None:
        width = max(map(len, found))
        return "\n".join(f"{name:<{width}}  {_about(path)}" for name, path in found.items())
    folder = Path(config.copy)
    targets = {path: folder / f"{name}.yaml" for name, path in found.items()}
    there = [target for target in targets.values() if target.exists()]
    if there:
        raise InputError(f"{there[0]} exists already: name another folder")
    for path, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return "\n".join(str(target) for target in targets.values())


def _about(path: Path) -> str:
    """The first comment of a recipe."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
