import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.sources import SOURCES, find_source
from tests.manifests.sources import conftest  # noqa: F401 it fills MINIATURES
from tests.manifests.sources.miniature import MINIATURES


def test_every_source_is_found_and_has_a_miniature():
    assert {s.name for s in SOURCES} == {*MINIATURES, "folder", "table"}


def test_unknown_source_names_the_choices():
    with pytest.raises(
        InputError, match=r"source is 'shenzen' .did you mean 'shenzhen'..; known: actualmed, .*shenzhen"
    ):
        find_source("shenzen")
