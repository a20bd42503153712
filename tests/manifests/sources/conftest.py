"""Each miniature made and built once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from cxr_isnet.manifests import read_manifest
from cxr_isnet.manifests.building import BuildReport, build_manifest
from cxr_isnet.manifests.sources import find_source

from . import miniatures_covid, miniatures_reports, miniatures_tuberculosis  # noqa: F401 they fill MINIATURES
from .miniature import MINIATURES


@dataclass(frozen=True)
class Built:
    """A miniature, its manifest, and what was reported of it."""

    root: Path
    table: Path
    report: BuildReport
    frame: pd.DataFrame

    def row(self, name: str) -> pd.Series:
        """The row of the image with this file name."""
        return self.frame[[Path(image).name == name for image in self.frame["image"]]].iloc[0]


BuildMiniature = Callable[[str], Built]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildMiniature:
    """Gives the miniature of a source, built; not to be changed."""
    done: dict[str, Built] = {}

    def build(name: str) -> Built:
        if name not in done:
            root, output = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp("tables") / f"{name}.csv"
            MINIATURES[name].make(root)
            report = build_manifest(find_source(name), root, output)
            done[name] = Built(root, output, report, read_manifest(output))
        return done[name]

    return build
