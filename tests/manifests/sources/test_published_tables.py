"""What holds for every published set that has a table."""

import re

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.sources import find_source

from . import conftest  # noqa: F401 it fills MINIATURES
from .miniature import MINIATURES

WITHOUT_TABLE = {"shenzhen", "montgomery", "tbx11k", "covid19_radiography", "jsrt"}


@pytest.mark.parametrize("name", sorted(set(MINIATURES) - WITHOUT_TABLE))
def test_a_table_without_its_columns_is_named(name, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    MINIATURES[name].make(root)
    for path in [path for path in root.rglob("*") if re.search(r"\.(csv|tsv|csv\.gz)$", path.name)]:
        path.with_name(path.name.removesuffix(".gz")).write_text("something\nelse\n")
        if path.suffix == ".gz":
            path.unlink()

    with pytest.raises(InputError, match=r"column '.*' is missing; the table has 'something'"):
        build_manifest(find_source(name), root, tmp_path / "table.csv")
