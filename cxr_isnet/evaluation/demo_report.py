"""The demonstration's page: one HTML file with its pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from cxr_isnet.evaluation.comparison import comparison_figure
from cxr_isnet.evaluation.gallery import HeatmapCase
from cxr_isnet.files import replacing


@dataclass(frozen=True)
class MethodSection:
    """One method's part of the page: its name, its numbers (as in `results.json`) and its heatmaps."""

    name: str
    results: dict[str, Any]
    cases: Sequence[HeatmapCase]


def write_demo_report(path: Path, sections: Sequence[MethodSection]) -> None:
    """Writes the page, and the comparison of the heatmaps as `heatmaps.png` beside it."""
    figure = comparison_figure({s.name: s.cases for s in sections})
    with replacing(path.with_name("heatmaps.png")) as partial:
        figure.savefig(partial)
    environment = Environment(loader=PackageLoader("cxr_isnet.evaluation"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("demo_report.html").render(sections=sections, heatmaps=_inline(figure))
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _inline(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
