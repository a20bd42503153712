import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.sources.source import SOURCES

from . import conftest  # noqa: F401 it fills MINIATURES
from .miniature import MINIATURES


def test_every_source_is_found_and_has_a_miniature():
    assert set(SOURCES.all()) == {*MINIATURES, "folder", "table"}


def test_unknown_source_names_the_choices():
    with pytest.raises(InputError, match=r"source is 'shenzen'; known: actualmed, .*shenzhen"):
        SOURCES.get("shenzen")
