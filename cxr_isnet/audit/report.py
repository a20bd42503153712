"""The audit as `audit.json` and as `audit.html`.

`audit.json` holds: `disclaimer`; `model`; `verdict` (of the whole audit: "no sign of a shortcut", "sign of a shortcut"
or "not applicable"); `rule` (how p-values become verdicts); `classes`; `sites`; `n_images`, `n_patients` audited;
`n_without_mask`, images left out; `settings` (`resamples`, `seed`, `size`); and `examinations`, a list in the order of
the report. An examination has `name`, `title`, `question`, `rule`, `limits`, `verdict` (also "heatmaps not to be
trusted"), `reason` (of "not applicable", else ""), `p_value` and `adjusted_p` (null without), and `measures`: `name`,
`value`, `low`, `high` (95% interval; null where undefined), `n_images`, `threshold` and `p_value` (null for a number
that only describes).
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from cxr_isnet.audit.measures import Measure, Picture, Verdict
from cxr_isnet.audit.running import RULE, Result, overall
from cxr_isnet.audit.subject import Subject
from cxr_isnet.evaluation.arrays import FloatArray
from cxr_isnet.evaluation.report import DISCLAIMER, write_json
from cxr_isnet.files import replacing

_TILE = 192
_SHOWN = 12
"""Numbers of an examination that the page shows at once; the rest can be unfolded."""

_TAGS = {
    Verdict.SIGN: "sign",
    Verdict.NO_SIGN: "none",
    Verdict.UNSOUND: "unsound",
    Verdict.NOT_APPLICABLE: "open",
}


@dataclass(frozen=True)
class AuditReport:
    """All that the files say.

    Attributes:
        subject: what was audited.
        results: of the examinations.
        n_without_mask: images of the manifests that were left out.
    """

    subject: Subject
    results: Sequence[Result]
    n_without_mask: int

    @property
    def verdict(self) -> Verdict:
        """Of the whole audit."""
        return overall(self.results)

    def to_dict(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        data = self.subject.images
        return {
            "model": self.subject.model.name,
            "verdict": self.verdict.value,
            "rule": RULE,
            "classes": list(data.classes),
            "sites": list(data.site_names),
            "n_images": len(data),
            "n_patients": self.subject.bootstrap().n_patients,
            "n_without_mask": self.n_without_mask,
            "settings": {
                "resamples": self.subject.resamples,
                "seed": self.subject.seed,
                "size": int(data.images.shape[-1]),
            },
            "examinations": [_examination(result) for result in self.results],
        }

    def metrics(self) -> dict[str, float]:
        """Numbers for a tracking server: per examination its verdict (1 sign, 0 none), p-value and tested numbers."""
        flat: dict[str, float] = {"audit.sign": float(self.verdict is Verdict.SIGN)}
        for result in self.results:
            name = f"audit.{result.examination.name}"
            if result.adjusted_p is not None:
                flat |= {f"{name}.sign": float(result.verdict is Verdict.SIGN), f"{name}.adjusted_p": result.adjusted_p}
            flat |= {f"{name}.{m.name}": m.value for m in result.observation.measures if m.p_value is not None}
        return flat

    def table(self) -> str:
        """A line per examination for the terminal."""
        lines = [f"{'examination':<44} {'verdict':<26} {'p':>7}  number with the smallest p (95% interval)"]
        for result in self.results:
            p_value = "" if result.adjusted_p is None else _p(result.adjusted_p)
            told = f"({result.reason})" if result.verdict is Verdict.NOT_APPLICABLE else _strongest(result)
            lines.append(f"{result.examination.title:<44} {result.verdict.value:<26} {p_value:>7}  {told}")
        return "\n".join([*lines, f"audit: {self.verdict.value}"])


def write_audit(folder: Path, report: AuditReport) -> tuple[Path, Path]:
    """Write `audit.json` and `audit.html` into a folder that exists; each whole or not at all."""
    json_file, page = folder / "audit.json", folder / "audit.html"
    write_json(json_file, report.to_dict())
    environment = Environment(loader=PackageLoader("cxr_isnet.audit"), autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("audit_report.html").render(
        **report.to_dict(),
        disclaimer=DISCLAIMER,
        tag=_TAGS[report.verdict],
        sections=[
            {
                **_examination(result),
                "tag": _TAGS[result.verdict],
                "rows": [_row(measure) for measure in result.observation.measures],
                "pictures": [_drawn(picture) for picture in result.observation.pictures],
            }
            for result in report.results
        ],
        shown=_SHOWN,
    )
    with replacing(page) as partial:
        partial.write_text(html, encoding="utf-8")
    return json_file, page


def _examination(result: Result) -> dict[str, Any]:
    about = result.examination
    return {
        "name": about.name,
        "title": about.title,
        "question": about.question,
        "rule": about.rule,
        "limits": about.limits,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "p_value": result.observation.p_value,
        "adjusted_p": result.adjusted_p,
        "measures": [
            {key: _finite(value) for key, value in asdict(measure).items()} for measure in result.observation.measures
        ],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _strongest(result: Result) -> str:
    tested = [m for m in result.observation.measures if m.p_value is not None]
    return _told(min(tested, key=lambda m: m.p_value or 0.0)) if tested else ""


def _told(measure: Measure) -> str:
    return f"{measure.name}: {measure.value:.3f} ({measure.low:.3f} to {measure.high:.3f})"


def _row(measure: Measure) -> dict[str, str]:
    return {
        "name": measure.name,
        "value": "undefined" if math.isnan(measure.value) else f"{measure.value:.3f}",
        "interval": "" if math.isnan(measure.low) else f"{measure.low:.3f} to {measure.high:.3f}",
        "threshold": "" if measure.threshold is None else f"{measure.threshold:.2f}",
        "p": "" if measure.p_value is None else _p(measure.p_value),
        "n": str(measure.n_images),
    }


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _drawn(picture: Picture) -> dict[str, Any]:
    return {
        "caption": picture.caption,
        "tiles": [{"heading": heading, "source": _data_uri(pixels)} for heading, pixels in picture.tiles],
    }


def _data_uri(pixels: np.ndarray[tuple[int, int], np.dtype[np.float32]] | FloatArray) -> str:
    shown = Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)).resize((_TILE, _TILE))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
