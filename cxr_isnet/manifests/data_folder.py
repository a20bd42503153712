"""The data folder: a sub-folder for each public set, with the manifest that `cxr-isnet manifest build` writes there."""

import os
from pathlib import Path

from cxr_isnet.config import expand_variables
from cxr_isnet.manifests.source_parsing.source import PublishedSet
from cxr_isnet.manifests.sources import SOURCES

DATA_FOLDER = "${CXR_ISNET_DATA:-data}"
"""As the shipped column mappings name it; relative to the working directory."""

_MANIFEST = "manifest.csv"


def set_folder(source: str) -> Path:
    """Where a public set lies unless another folder is named."""
    return Path(expand_variables(DATA_FOLDER, "the data folder")).expanduser() / source


def set_manifest(source: str) -> Path:
    """The manifest of a public set, which recipes read."""
    return set_folder(source) / _MANIFEST


def how_to_build(table: Path) -> str:
    """The command that makes a table and where the set is had, for an error message.

    Args:
        table: a file that is not there.

    Returns:
        The command and the page; "" where the table is not called as the manifest of a public set is,
        `<source>/manifest.csv`.
    """
    source = table.parent.name
    public = {item.name: item for item in SOURCES if isinstance(item, PublishedSet)}
    if table.name != _MANIFEST or source not in public:
        return ""
    usual = os.path.abspath(table) == os.path.abspath(set_manifest(source))
    command = f"`cxr-isnet manifest build {source} <folder of the download>{'' if usual else f' -o {table}'}`"
    return f"{command}; {public[source].title} is had from {public[source].had_from}"
