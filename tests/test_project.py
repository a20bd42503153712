"""What the project says of itself, in its documents, is so."""

import re
from pathlib import Path

import pytest
import yaml

from cxr_isnet import __version__

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_a_document_links_to_are_there(document):
    links = re.findall(r"\]\(([^)#:]+)", (PROJECT / document).read_text(encoding="utf-8"))

    assert [link for link in links if not (PROJECT / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_of_the_package_that_a_document_names_are_there(document):
    named = re.findall(
        r"`((?:cxr_isnet|tests|docs|pipelines|\.ci)/[^`\s]*)`", (PROJECT / document).read_text(encoding="utf-8")
    )

    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_what_contributing_adds_a_line_to_is_in_the_file_that_it_names():
    table = re.findall(r"`([A-Z_]+)`, `(cxr_isnet/\S+\.py)`", (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8"))

    assert len(table) == 9
    missing = [name for name, file in table if not re.search(rf"^{name}\b", (PROJECT / file).read_text(), re.MULTILINE)]
    assert missing == []


def test_tests_that_the_page_on_reliability_names_are_there_and_as_slow_as_it_says():
    page = (PROJECT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"`(test_\w+)`( \(slow\))?", page))
    found: dict[str, bool] = {}
    for file in (PROJECT / "tests").rglob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        all_slow = "pytestmark = pytest.mark.slow" in text
        for marks, name in re.findall(r"^((?:@.*\n(?:[ )\]].*\n)*)*)def (test_\w+)", text, re.MULTILINE):
            found[name] = all_slow or "mark.slow" in marks

    assert len(named) > 50
    assert [name for name in named if name not in found] == []
    assert [name for name, slow in named.items() if bool(slow) != found[name]] == []


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))

    assert str(citation["version"]) == __version__
    assert f"\n## {__version__} - " in (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
