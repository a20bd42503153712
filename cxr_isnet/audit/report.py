"""The audit as `audit.json` and as `audit.html`.

`audit.json` holds: `disclaimer`; `model`; `verdict` (of the whole audit: "no sign of a shortcut", "sign of a shortcut"
or "not applicable"); `rule` (how p-values become verdicts); `classes`; `sites`; `n_images`, `n_patients` audited;
`n_without_mask`, images left out; `settings` (`resamples`, `seed`, `size`); and `probes`, a list in the order of
the report. An probe has `name`, `title`, `question`, `rule`, `limits`, `verdict` (also "heatmaps not to be
trusted"), `reason` (of "not applicable", else ""), `p_value` and `adjusted_p` (null without), and `statistics`: `name`,
`value`, `low`, `high` (95% interval; null where undefined), `n_images`, `threshold` and `p_value` (null for a number
that only describes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxr_isnet.audit.audit_context import AuditContext
from cxr_isnet.audit.running import RULE, Result, overall
from cxr_isnet.audit.statistics import Picture, Verdict
from cxr_isnet.evaluation import FloatArray, image_uri, number_with_interval, p_value, write_page
from cxr_isnet.files import write_json

_TILE = 192
_SHOWN = 12
"""Numbers of an probe that the page shows at once; the rest can be unfolded."""

_TAGS = {
    Verdict.SIGN: "bad",
    Verdict.NO_SIGN: "good",
    Verdict.UNSOUND: "warn",
    Verdict.NOT_APPLICABLE: "open",
}


@dataclass(frozen=True)
class AuditReport:
    """All that the files say.

    Attributes:
        context: what was audited.
        results: of the probes.
        n_without_mask: images of the manifests that were left out.
    """

    context: AuditContext
    results: Sequence[Result]
    n_without_mask: int

    @property
    def verdict(self) -> Verdict:
        """Of the whole audit."""
        return overall(self.results)

    def to_dict(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        data = self.context.images
        return {
            "model": self.context.model.name,
            "verdict": self.verdict.value,
            "rule": RULE,
            "classes": list(data.classes),
            "sites": list(data.site_names),
            "n_images": len(data),
            "n_patients": self.context.bootstrap().n_patients,
            "n_without_mask": self.n_without_mask,
            "settings": {
                "resamples": self.context.resamples,
                "seed": self.context.seed,
                "size": int(data.images.shape[-1]),
            },
            "probes": [_probe(result) for result in self.results],
        }

    def metrics(self) -> dict[str, float]:
        """Numbers for a tracking server: per probe its verdict (1 sign, 0 none), p-value and tested numbers."""
        flat: dict[str, float] = {"audit.sign": float(self.verdict is Verdict.SIGN)}
        for result in self.results:
            name = f"audit.{result.probe.name}"
            if result.adjusted_p is not None:
                flat |= {f"{name}.sign": float(result.verdict is Verdict.SIGN), f"{name}.adjusted_p": result.adjusted_p}
            flat |= {f"{name}.{m.name}": m.value for m in result.observation.statistics if m.p_value is not None}
        return flat

    def table(self) -> str:
        """A line per probe for the terminal."""
        lines = [f"{'probe':<44} {'verdict':<26} {'p':>7}  number with the smallest p (95% interval)"]
        for result in self.results:
            p = "" if result.adjusted_p is None else p_value(result.adjusted_p)
            text = f"({result.reason})" if result.verdict is Verdict.NOT_APPLICABLE else _strongest(result)
            lines.append(f"{result.probe.title:<44} {result.verdict.value:<26} {p:>7}  {text}")
        return "\n".join([*lines, f"audit: {self.verdict.value}"])


def write_audit(folder: Path, report: AuditReport) -> tuple[Path, Path]:
    """Write `audit.json` and `audit.html` into a folder that exists; each whole or not at all."""
    json_file, page = folder / "audit.json", folder / "audit.html"
    write_json(json_file, report.to_dict())
    write_page(
        page,
        "audit_report.html",
        **report.to_dict(),
        tag=_TAGS[report.verdict],
        sections=[
            {
                **_probe(result),
                "tag": _TAGS[result.verdict],
                "pictures": [_drawn(picture) for picture in result.observation.pictures],
            }
            for result in report.results
        ],
        shown=_SHOWN,
    )
    return json_file, page


def _probe(result: Result) -> dict[str, Any]:
    about = result.probe
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
        "statistics": [
            {key: _finite(value) for key, value in asdict(statistic).items()}
            for statistic in result.observation.statistics
        ],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _strongest(result: Result) -> str:
    tested = [m for m in result.observation.statistics if m.p_value is not None]
    if not tested:
        return ""
    strongest = min(tested, key=lambda m: m.p_value or 0.0)
    return f"{strongest.name}: {number_with_interval(strongest.value, strongest.low, strongest.high)}"


def _drawn(picture: Picture) -> dict[str, Any]:
    return {
        "caption": picture.caption,
        "tiles": [{"heading": heading, "source": _data_uri(pixels)} for heading, pixels in picture.tiles],
    }


def _data_uri(pixels: np.ndarray[tuple[int, int], np.dtype[np.float32]] | FloatArray) -> str:
    return image_uri(Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)).resize((_TILE, _TILE)))
