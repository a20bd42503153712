"""Recipes and column mappings that come with the package, wherever it is installed."""

from __future__ import annotations

import os
from pathlib import Path

from cxr_isnet.config import expand_variables

_INSTALLED = Path(__file__).with_name("_shipped")
_CLONE = Path(__file__).resolve().parents[1]


def shipped_folder() -> Path:
    """Folder with `pipelines` and `data_manifests`: the wheel's copy, or the clone that the package lies in."""
    return _INSTALLED if _INSTALLED.is_dir() else _CLONE


def recipes() -> dict[str, Path]:
    """Name to file of every recipe: configs of `train` and `segment train` (as `segmentation/shenzhen`), and `demo`."""
    folder = shipped_folder() / "pipelines"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def locate(path: str | Path) -> Path:
    """A file as a config names it.

    Args:
        path: `${NAME}` and `${NAME:-default}` in it are replaced from the environment.

    Returns:
        The path; where there is no such file and the package comes with one of that relative path, as
        `data_manifests/tb_shenzhen.yaml`, or with a recipe of that name, as `tb_shenzhen_montgomery`, that one's.

    Raises:
        InputError: A variable without a default is not set.
    """
    own = Path(expand_variables(os.fspath(path), f"'{path}'"))
    if own.is_file() or own.is_absolute():  # a folder, as `demo` after the demonstration, does not hide a recipe
        return own
    shipped = shipped_folder() / own
    return shipped if shipped.is_file() else recipes().get(own.as_posix(), own)
