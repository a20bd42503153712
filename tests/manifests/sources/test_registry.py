import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.sources.registry import get_source, register, sources

from . import conftest  # noqa: F401 it fills MINIATURES
from .miniature import MINIATURES


def test_every_source_is_found_and_has_a_miniature():
    assert set(sources()) == {*MINIATURES, "folder", "table"}


def test_unknown_source_names_the_choices():
    with pytest.raises(InputError, match=r"source is 'shenzen'; known: actualmed, .*shenzhen"):
        get_source("shenzen")


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="registered twice"):
        register(get_source("shenzhen"))
