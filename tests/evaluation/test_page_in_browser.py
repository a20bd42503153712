"""The report in headless Chromium: its numbers, on a phone, and on paper."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.report import write_report
from cxr_isnet.evaluation.study import Study, evaluate_tables

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
    probe = {"title": "Marks planted into the background", "verdict": "sign of a shortcut", "rule": "word " * 60}
    audit = {
        "model": "runs/first/best.pt",
        "verdict": "sign of a shortcut",
        "rule": "any " * 40,
        "probes": [{**probe, "reason": "", "statistics": measures[:n]} for n in (5, 40, 20)],
    }
    settings = Settings(resamples=50, prevalence={"tuberculosis": 0.01})
    return evaluate_tables(tables, CLASSES, tables, settings, audit), tables


@pytest.fixture(scope="module")
def page(study: tuple[Study, dict[str, pd.DataFrame]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    Image.new("L", (1000, 2600)).save(folder / "maps.png")
    write_report(folder, *study, {"heatmaps": folder / "maps.png"})
    return folder / "report.html"


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


def test_the_numbers_are_those_of_the_study(page, study, chromium, tmp_path):
    shown = chromium(page, "--dump-dom")
    chromium(page, "--window-size=1200,2000", f"--screenshot={tmp_path / 'page.png'}")

    for name, model in study[0].models.items():
        auc = model.sites["Montgomery County"].result.metrics["auc"]
        row = re.search(rf'<tr data-model="{name}" data-site="Montgomery County">.*?</tr>', shown, re.DOTALL)
        assert row
        assert f"{auc.estimate:.3f} ({auc.low:.3f} to {auc.high:.3f})" in row.group()
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
    assert found["figures"] > 10
    assert found["width"] <= PAGE_MM[0] * PIXELS_PER_MM + 1
    assert (found["clipped"], found["breakable"], found["tall"]) == ([], [], [])


def test_it_prints_to_pdf_on_a4(page, chromium, tmp_path):
    chromium(page, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}")

    content = (tmp_path / "page.pdf").read_bytes()
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)

    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == len(boxes) > 10
    assert {(round(float(w) / 72 * 25.4), round(float(h) / 72 * 25.4)) for w, h in boxes} == {(210, 297)}
