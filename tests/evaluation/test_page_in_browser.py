"""All pages in headless Chromium: the numbers, on a phone, and on paper."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.audit.probes import PROBES
from cxr_isnet.audit.report import AuditReport, write_audit
from cxr_isnet.audit.statistics import Panel, ProbeResult, Statistic
from cxr_isnet.audit.verdicts import ProbeOutcome, Verdict
from cxr_isnet.checks import Check, Contingency, Finding, Picture, Severity
from cxr_isnet.checks.html_report import write_html_report
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.commands.demo import MethodSection, write_demo_report
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.page import interval_text
from cxr_isnet.evaluation.report import write_report
from cxr_isnet.evaluation.study import Study, evaluate_tables
from cxr_isnet.manifests import Place
from tests.audit.conftest import make_context, reads_corner
from tests.inference.test_comparison_figure import make_case

pytestmark = pytest.mark.browser

CLASSES = ("normal", "tuberculosis", "other_pneumonia")
PHONE = 390
PIXELS_PER_MM = 96 / 25.4
PAGE_MM = (210 - 2 * 14, 297 - 2 * 14)
"""What `@page` leaves of A4."""

PROBE = """<script>addEventListener('load', () => {
  const all = (what) => [...document.querySelectorAll(what)];
  const name = (e) => e.getAttribute('aria-label') || e.querySelector('figcaption')?.innerText || e.tagName;
  const whole = 'figure, tr:not(.long), li';
  const found = {
    width: document.documentElement.scrollWidth,
    broken: all('img').filter(i => !i.naturalWidth).length,
    clipped: all('.scroll').filter(e => e.querySelector('table').scrollWidth > e.clientWidth + 1).map(name),
    breakable: all(whole).filter(e => getComputedStyle(e).breakInside !== 'avoid').map(name),
    tall: all(whole).filter(e => e.offsetHeight > PAGE_HEIGHT).map(name),
    figures: all('figure').length,
    contents: getComputedStyle(document.querySelector('nav')).display,
  };
  document.body.innerHTML = '<pre id="found"></pre>';
  document.getElementById('found').textContent = JSON.stringify(found);
  parent.postMessage(JSON.stringify(found), '*');
});</script>"""


@pytest.fixture(scope="module")
def study() -> tuple[Study, dict[str, pd.DataFrame]]:
    """Two models, three classes, sites of long names, groups, an audit that says much: tables as wide as they come."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 120)
    common = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(120)],
            "patient_id": [str(i // 2) for i in range(120)],
            "site": [("Montgomery County", "Shenzhen No.3 Hospital")[i // 2 % 2] for i in range(120)],
            "label": [CLASSES[label] for label in labels],
            "manufacturer": ["Philips Medical Systems" if i % 3 else "GE" for i in range(120)],
        }
    )
    tables = {}
    for name, skill in {"isnet_stochastic": 2.0, "densenet121": 0.8}.items():
        logits = generator.normal(size=(120, 3)) + skill * np.eye(3)[labels]
        table = common.assign(model_uri=f"models:/{name}/1")
        table[[f"probability_{c}" for c in CLASSES]] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        tables[name] = table
    measures = [
        {"name": f"cross beyond a patch, bottom_right, {i}% of the side", "value": 0.1, "low": 0.05, "high": 0.2}
        for i in range(40)
    ]
    probe = {"title": "Imposed changes", "verdict": "shortcut found", "rule": "word " * 60}
    audit = {
        "model": "runs/first/best.pt",
        "verdict": "shortcut found",
        "rule": "any " * 40,
        "probes": [{**probe, "reason": "", "statistics": measures[:n]} for n in (5, 40, 20)],
    }
    settings = Settings(resamples=50, prevalence={"tuberculosis": 0.01})
    return evaluate_tables(tables, CLASSES, tables, settings, audit), tables


@pytest.fixture(scope="module")
def evaluation_page(study: tuple[Study, dict[str, pd.DataFrame]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    Image.new("L", (1000, 2600)).save(folder / "maps.png")
    write_report(folder, *study, {"heatmaps": folder / "maps.png"})
    return folder / "report.html"


@pytest.fixture(scope="module")
def audit_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every verdict, long names, tiles, and more numbers than are shown at once."""
    statistics = tuple(
        Statistic(f"cross beyond a patch, bottom_right, {i}% of the side", 0.1, 0.05, 0.2, 40, 0.05, 0.003)
        for i in range(20)
    )
    tiles = tuple((f"heading of tile {i}", np.full((64, 64), i / 5, dtype=np.float32)) for i in range(5))
    found = ProbeResult(
        (*statistics, Statistic("undefined", *[float("nan")] * 3, 40)), 0.003, "", (Panel("What was done", tiles),)
    )
    results = [
        ProbeOutcome(probe, found, verdict, 0.0004 if verdict is Verdict.FOUND else None, "a reason")
        for probe, verdict in zip(PROBES, [*Verdict, *Verdict], strict=False)
    ]
    return write_audit(tmp_path_factory.mktemp("audit"), AuditReport(make_context(reads_corner), results, 3))[1]


@pytest.fixture(scope="module")
def check_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Findings of every severity, with pictures and a wide table."""
    path = tmp_path_factory.mktemp("check") / "check.html"
    record = SimpleNamespace(shape=(2400, 2000), thumbnail=np.full((64, 64), 90, dtype=np.uint8))
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:48, 10:50] = True
    images: Any = {f"a_long_folder/image_{i}.png": record for i in range(6)}
    frame = pd.DataFrame({"site": ["north"] * 6, "patient_id": list("abcdef")})
    scan = ManifestScan(("a_long_folder/table.csv",), frame, images, {"m.png": SimpleNamespace(thumbnail=mask)})
    pictures = tuple(Picture(image, mask="m.png", box=(0.1, 0.1, 0.5, 0.5)) for image in images)
    labels = ("normal", "tuberculosis", "other pneumonia", "covid")
    counts = Contingency(
        "manufacturer", tuple(f"Maker {i}" for i in range(6)), labels, ((30, 20, 10, 40),) * 6, 0.7, 0.001
    )
    found = [
        Finding("odd", severity, "word " * 40, (Place("t.csv", 3),), "image", "x", pictures) for severity in Severity
    ]
    found.append(Finding("odd", Severity.WARNING, "label against manufacturer", contingency=counts))
    odd, even = (Check(name, f"nothing is {name}", lambda _: ()) for name in ("odd", "even"))
    write_html_report(path, scan, [(odd, found), (even, [])])
    return path


@pytest.fixture(scope="module")
def demo_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = {f"auc_{test}": 0.9 for test in ("biased", "clean", "swapped")}
    results |= {"relevance_in_lung": 0.9, "seconds": 61.4, "network": "densenet_tiny", "epochs": 16}
    path = tmp_path_factory.mktemp("demo") / "report.html"
    write_demo_report(path, [MethodSection(name, results, [make_case()] * 4) for name in ("cross_entropy", "isnet")])
    return path


@pytest.fixture(params=["evaluation_page", "audit_page", "check_page", "demo_page"])
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[..., str]:
    """Runs headless Chromium on a page; returns what it prints."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "headless Chromium is needed: apt-get install chromium"
    always = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]

    def run(page: Path, *options: str) -> str:
        done = subprocess.run(
            [*always, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    return run


def probed(page: Path, folder: Path, style: str = "") -> Path:
    """The page with a script that replaces it by what it found, after a change of `@media print`, which a window has
    no way to ask for."""
    text = page.read_text(encoding="utf-8")
    if style:
        assert "@media print" in text
        text = text.replace("@media print", style)
    script = PROBE.replace("PAGE_HEIGHT", str(PAGE_MM[1] * PIXELS_PER_MM))
    (folder / "probe.html").write_text(text.replace("</head>", script + "</head>"), encoding="utf-8")
    return folder / "probe.html"


def framed(page: Path, folder: Path, width: float) -> Path:
    """A page that shows `page` in a frame of a width that windows cannot have, and what its script found."""
    listener = "addEventListener('message', (m) => { document.getElementById('found').textContent = m.data; });"
    (folder / "frame.html").write_text(
        f'<script>{listener}</script><pre id="found"></pre>'
        f'<iframe src="{page.name}" style="width:{width}px;height:900px;border:0" scrolling="no"></iframe>',
        encoding="utf-8",
    )
    return folder / "frame.html"


def finding(dumped: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)[1])
    return found


def test_the_numbers_are_those_of_the_study(evaluation_page, study, chromium, tmp_path):
    shown = chromium(evaluation_page, "--dump-dom")
    chromium(evaluation_page, "--window-size=1200,2000", f"--screenshot={tmp_path / 'page.png'}")

    for name, model in study[0].models.items():
        auc = model.sites["Montgomery County"].result.metrics["auc"]
        row = re.search(rf'<tr data-model="{name}" data-site="Montgomery County">.*?</tr>', shown, re.DOTALL)
        assert row
        assert interval_text(auc) in row.group()
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.size == (1200, 2000)
        assert len(picture.convert("L").getcolors(256)) > 100


def test_nothing_falls_off_a_phone(page, chromium, tmp_path):
    frame = framed(probed(page, tmp_path), tmp_path, PHONE)

    found = finding(chromium(frame, "--dump-dom"))

    assert found["width"] <= PHONE
    assert found["broken"] == 0


def test_on_paper_no_table_is_clipped_and_no_figure_or_row_cut(page, chromium, tmp_path):
    frame = framed(probed(page, tmp_path, style="@media all"), tmp_path, PAGE_MM[0] * PIXELS_PER_MM)

    found = finding(chromium(frame, "--dump-dom"))

    assert found["contents"] == "none"  # the rules for paper hold
    assert found["figures"] > (10 if page.parent.name.startswith("evaluation") else 0)
    assert found["width"] <= PAGE_MM[0] * PIXELS_PER_MM + 1
    assert (found["clipped"], found["breakable"], found["tall"]) == ([], [], [])


def test_it_prints_to_pdf_on_a4(evaluation_page, chromium, tmp_path):
    chromium(evaluation_page, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}")

    content = (tmp_path / "page.pdf").read_bytes()
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)

    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == len(boxes) > 10
    assert {(round(float(w) / 72 * 25.4), round(float(h) / 72 * 25.4)) for w, h in boxes} == {(210, 297)}
