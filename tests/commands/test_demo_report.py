import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from cxr_isnet.commands.demo import MethodSection, write_demo_report
from tests.inference.test_comparison_figure import make_case

RESULTS = {
    "auc_biased": 0.991,
    "auc_clean": 0.662,
    "auc_swapped": 0.013,
    "relevance_in_lung": 0.16,
    "seconds": 61.4,
    "network": "densenet_tiny",
    "epochs": 16,
}


class Page(HTMLParser):
    """Cells of the table by row, sources and descriptions of the pictures, and tags that were left open."""

    EMPTY = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


@pytest.fixture
def page(tmp_path) -> Page:
    better = RESULTS | {"auc_swapped": 0.95, "relevance_in_lung": 0.93}
    sections = [MethodSection("plain <b>", RESULTS, [make_case()]), MethodSection("isnet", better, [make_case()])]
    write_demo_report(tmp_path / "report.html", sections)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_every_method_has_a_row_with_its_numbers(page):
    assert page.rows[1:] == [
        ["plain <b>", "0.991", "0.662", "0.013", "16%", "61"],
        ["isnet", "0.991", "0.662", "0.950", "93%", "61"],
    ]
    assert page.open == []


def test_the_pictures_lie_inside_the_page_and_are_described(page):
    (image,) = page.images

    kind, content = (image["src"] or "").split(",", 1)
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert np.asarray(picture).std() > 0
    assert image["alt"]


def test_the_same_picture_lies_beside_the_page_and_nothing_else_does(page, tmp_path):
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "heatmaps.png"}


def test_a_number_that_is_missing_is_a_bug_and_leaves_no_page(tmp_path):
    broken = {key: value for key, value in RESULTS.items() if key != "auc_clean"}

    with pytest.raises(UndefinedError, match="auc_clean"):
        write_demo_report(tmp_path / "report.html", [MethodSection("isnet", broken, [make_case()])])

    assert not (tmp_path / "report.html").exists()
