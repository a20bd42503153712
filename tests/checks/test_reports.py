import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from cxr_isnet.checks import Check, Contingency, Finding, Picture, Severity
from cxr_isnet.checks.html_report import write_html_report
from cxr_isnet.checks.json_report import write_json_report
from cxr_isnet.checks.text_report import text_report
from cxr_isnet.manifests import Place
from tests.checks.conftest import save

SITES = tuple(f"Hospital {number}" for number in range(12))
TABLE = Contingency("site", SITES, ("ill", "normal"), tuple((12 - n, n) for n in range(12)), 0.71, 0.001)


@pytest.fixture
def scan(hospital, scan_of, tmp_path, lungs):
    save(tmp_path / "m.png", lungs[0])
    hospital.loc[0, "mask"] = "m.png"
    return scan_of(hospital)


@pytest.fixture
def groups(scan, tmp_path):
    """Two checks: one with many findings of each kind, one with none."""
    place = Place("table.csv", 3)
    picture = Picture(str(tmp_path / "0.png"), mask=str(tmp_path / "m.png"), box=(0.1, 0.1, 0.5, 0.5))
    many = [Finding("odd", Severity.WARNING, f"<b>odd</b> number {n}", (place,), "image", str(n)) for n in range(40)]
    found = [
        Finding("odd", Severity.WARNING, "label against site", contingency=TABLE),
        Finding("odd", Severity.ERROR, "broken", (place,), "image", "x", (picture, Picture("not read.png"))),
        *many,
        Finding("odd", Severity.INFO, "a note"),
    ]
    about = "nothing is odd"
    return [(Check("odd", about, lambda _: ()), found), (Check("even", "all is even", lambda _: ()), [])]


class Page(HTMLParser):
    """Collects the addresses that a page would fetch, and its text."""

    def __init__(self):
        super().__init__()
        self.sources, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]

    def handle_data(self, data):
        self.text += data


def test_text_counts_all_and_shows_the_worst_first(scan, groups):
    lines = text_report(scan, groups).splitlines()

    assert lines[0] == "tables: 1, rows: 6, patients: 6, readable images: 6, readable masks: 1"
    assert lines[1] == "Found: 1 error, 41 warnings, 1 info."
    assert lines[3] == "odd: 1 error, 41 warnings, 1 info (nothing is odd)"
    assert lines[4] == "  error: broken"
    assert "  warning: and 36 more" in lines
    assert "even: nothing found (all is even)" in lines


def test_text_shows_the_contingency_table_with_rare_values_summed_up(scan, groups):
    check, found = groups[0]

    text = text_report(scan, [(check, [one for one in found if one.contingency])])

    assert re.search(r"site +ill +normal\n +Hospital 0 +12 +0\n", text)
    assert re.search(r"4 others +10 +38$", text)


def test_text_of_nothing(scan):
    assert "Clean: nothing has to be done." in text_report(scan, [])


def test_json_holds_every_finding(scan, groups, tmp_path):
    findings = [finding for _, found in groups for finding in found]

    write_json_report(tmp_path / "check.json", scan, findings)

    content = json.loads((tmp_path / "check.json").read_text())
    assert content["status"] == 1
    assert content["counts"] == {"unusable": 0, "error": 1, "warning": 41, "info": 1}
    assert len(content["findings"]) == 43
    assert content["findings"][1] == {
        "check": "odd",
        "severity": "error",
        "message": "broken",
        "rows": [{"table": "table.csv", "row": 3}],
        "column": "image",
        "value": "x",
        "images": [str(tmp_path / "0.png"), "not read.png"],
        "contingency": None,
        "controls": [],
    }
    assert content["findings"][0]["contingency"]["counts"][0] == [12, 0]


def test_page_fetches_nothing_and_shows_the_flagged_picture(scan, groups, tmp_path):
    write_html_report(tmp_path / "check.html", scan, groups)

    page = Page()
    page.feed((tmp_path / "check.html").read_text())
    assert len(page.sources) == 1
    picture = Image.open(io.BytesIO(base64.b64decode(page.sources[0].removeprefix("data:image/png;base64,"))))
    colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {(64, 200, 96), (255, 176, 0)} <= colours  # outline of the lungs, frame of the crop


def test_page_escapes_what_tables_say_and_counts_what_it_leaves_out(scan, groups, tmp_path):
    write_html_report(tmp_path / "check.html", scan, groups)

    text = (tmp_path / "check.html").read_text()
    assert "<b>odd</b>" not in text
    assert "&lt;b&gt;odd&lt;/b&gt; number 0" in text
    assert "And 11 more" in text
    assert "Hospital 0" in text


def test_text_obeys_no_control_character_of_a_name(scan):
    found = [Finding("odd", Severity.WARNING, "a\x1b[2Jb.png\nCLEAN\u202e gone: \u00e9")]

    text = text_report(scan, [(Check("odd", "nothing is odd", lambda _: ()), found)])

    assert "a?[2Jb.png?CLEAN? gone: é" in text
