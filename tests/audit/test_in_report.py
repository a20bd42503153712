"""An audit in the report of an evaluation: the same verdicts, the same numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cxr_isnet.commands.audit import AuditConfig, audit
from cxr_isnet.commands.evaluate import EvaluateConfig, evaluate
from cxr_isnet.tracking import TrackingConfig

NO_TRACKING = TrackingConfig(enabled=False)


@pytest.fixture
def audited(
    trained: Path, phantom_manifest: Path, external_manifest: Path, few_changes: None, tmp_path: Path
) -> tuple[Mapping[str, Any], Path]:
    """The content of `audit.json`, and the folder of the report that was given it."""
    manifests = [str(phantom_manifest), str(external_manifest)]
    audit(AuditConfig(str(trained / "best.pt"), manifests, str(tmp_path / "audit"), resamples=20, tracking=NO_TRACKING))
    file = tmp_path / "audit" / "audit.json"
    predictions = str(trained / "validation" / "clean" / "predictions.csv")
    evaluate(
        EvaluateConfig(
            output=str(tmp_path / "report"),
            predictions=predictions,
            audit=str(file),
            resamples=20,
            tracking=NO_TRACKING,
        )
    )
    return json.loads(file.read_text()), tmp_path / "report"


def rows(page: str) -> dict[str, list[str]]:
    """Cells of the audit's table by probe."""
    (section,) = re.findall(r'<section id="audit".*?</section>', page, re.DOTALL)
    found = {}
    for row in re.findall(r"<tr class=.long.>.*?</tr>", section, re.DOTALL):
        title, *cells = (
            unescape(re.sub(r"<[^>]+>", "", c)).strip() for c in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        )
        found[title] = cells
    return found


def test_the_report_shows_what_the_audit_found(audited: tuple[Mapping[str, Any], Path]) -> None:
    content, report = audited
    page = (report / "report.html").read_text(encoding="utf-8")

    found = rows(page)

    assert json.loads((report / "report.json").read_text())["audit"] == content
    assert list(found) == [p["title"] for p in content["probes"]]
    for probe in content["probes"]:
        verdict, rule, numbers = found[probe["title"]]
        assert verdict.startswith(probe["verdict"])
        assert probe["reason"] in verdict
        assert probe["rule"] in rule
        for statistic in probe["statistics"]:
            value = "\u2013" if statistic["value"] is None else f"{statistic['value']:.3f}"
            low, high = statistic["low"], statistic["high"]
            interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
            assert f"{statistic['name'].replace('_', ' ')}: {value}{interval}" in numbers
    assert f"<strong>{content['verdict']}</strong>" in page
    assert content["rule"] in unescape(page)
    assert content["verdict"] in (report / "model_card.md").read_text(encoding="utf-8")
