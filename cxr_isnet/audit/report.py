"""The audit as `audit.json` and as `audit.html`.

`audit.json` holds: `disclaimer`; `model`; `verdict` (of the whole audit: "shortcut found", "none found among those
examined" or "cannot tell"); `statement` (`found`, `examined`, `open`, `not_examined`: lists of sentences that say what
the verdict rests on); `rule` (how p-values become verdicts); `classes`; `sites`; `n_images`, `n_patients` audited;
`n_without_mask`, images left out; `training` (null, or `sites`, `n_images`, `n_held_out` of the training hospitals);
`settings` (`resamples`, `seed`, `size`); and `probes`, a list in the order of the report. A probe has `name`, `title`,
`question`, `rule`, `limits`, `verdict` (also "passed" and "not passed" of the positive control, "heatmaps depend on the
weights", "heatmaps not to be trusted" and "not applicable"), `reason`, `p_value` and `adjusted_p` (null without), and
`statistics`: `name`, `value`, `low`, `high` (95% interval; null where undefined), `n_images`, `threshold` and `p_value`
(null for a descriptive statistic).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxr_isnet.audit.probe import AuditContext
from cxr_isnet.audit.statistics import Panel
from cxr_isnet.audit.verdicts import RULE, ProbeOutcome, Statement, Verdict, overall_verdict, statement
from cxr_isnet.evaluation import FloatArray, image_uri, number_with_interval, p_value, write_page
from cxr_isnet.files import write_json

_TILE = 192
_SHOWN = 12
"""Statistics of a probe that the page shows at once; the rest can be unfolded."""

_TAGS = {
    Verdict.FOUND: "bad",
    Verdict.NONE_FOUND: "good",
    Verdict.CANNOT_TELL: "open",
    Verdict.CONTROL_PASSED: "good",
    Verdict.CONTROL_FAILED: "bad",
    Verdict.HEATMAPS_SOUND: "good",
    Verdict.UNSOUND: "warn",
    Verdict.NOT_APPLICABLE: "open",
}


@dataclass(frozen=True)
class AuditReport:
    """Content of the audit's files, metrics and table.

    Attributes:
        context: model and images that were audited.
        outcomes: of the probes.
        n_without_mask: images of the manifests that were left out.
    """

    context: AuditContext
    outcomes: Sequence[ProbeOutcome]
    n_without_mask: int

    @property
    def verdict(self) -> Verdict:
        """Verdict of the whole audit."""
        return overall_verdict(self.outcomes, self.context.training)

    @property
    def statement(self) -> Statement:
        """What the verdict rests on."""
        return statement(self.outcomes, self.context.training)

    def to_dict(self) -> dict[str, Any]:
        """Content of `audit.json`."""
        data = self.context.data
        return {
            "model": self.context.model.name,
            "verdict": self.verdict.value,
            "statement": {key: list(value) for key, value in asdict(self.statement).items()},
            "rule": RULE,
            "classes": list(data.classes),
            "sites": list(data.site_names),
            "n_images": len(data),
            "n_patients": self.context.bootstrap().n_patients,
            "n_without_mask": self.n_without_mask,
            "training": self._training(),
            "settings": {
                "resamples": self.context.resamples,
                "seed": self.context.seed,
                "size": int(data.images.shape[-1]),
            },
            "probes": [_probe(outcome) for outcome in self.outcomes],
        }

    def _training(self) -> dict[str, Any] | None:
        found = self.context.training
        if found is None or found.seen is None:
            return None
        held_out = 0 if found.held_out is None else len(found.held_out)
        return {"sites": list(found.seen.site_names), "n_images": len(found.seen), "n_held_out": held_out}

    def metrics(self) -> dict[str, float]:
        """Metrics for a tracking server: by probe whether it found a shortcut (1, 0), p-value and tested statistics.

        They are named alike for every model, as `audit/hidden_lungs/auc_background_only`.
        """
        flat: dict[str, float] = {"audit/shortcut_found": float(self.verdict is Verdict.FOUND)}
        for outcome in self.outcomes:
            name = f"audit/{outcome.probe.name}"
            if outcome.adjusted_p is not None:
                flat |= {
                    f"{name}/shortcut_found": float(outcome.verdict is Verdict.FOUND),
                    f"{name}/adjusted_p": outcome.adjusted_p,
                }
            tested = [s for s in outcome.result.statistics if s.p_value is not None]
            flat |= {f"{name}/{_snake_case(s.key or s.name)}": s.value for s in tested}
        return flat

    def table(self) -> str:
        """Text for the terminal: a line per probe, then what the verdict rests on."""
        width = max(len(outcome.probe.title) for outcome in self.outcomes)
        lines = [f"{'probe':<{width}}  {'verdict':<31} {'p':>7}  number with the smallest p (95% interval)"]
        for outcome in self.outcomes:
            p = "" if outcome.adjusted_p is None else p_value(outcome.adjusted_p)
            text = f"({outcome.reason})" if outcome.verdict is Verdict.NOT_APPLICABLE else _smallest_p(outcome)
            lines.append(f"{outcome.probe.title:<{width}}  {outcome.verdict.value:<31} {p:>7}  {text}")
        said = self.statement
        headings = {"found": said.found, "looked for, not found": said.examined, "left open": said.open}
        for heading, entries in {**headings, "not examined": said.not_examined}.items():
            if entries:
                lines += ["", f"{heading}:", *(f"  - {entry}" for entry in entries)]
        return "\n".join([*lines, "", f"audit: {self.verdict.value}"])


def write_audit(folder: Path, report: AuditReport) -> tuple[Path, Path]:
    """Write `audit.json` and `audit.html`, each whole or not at all.

    Args:
        folder: that exists.
        report: to write.

    Returns:
        The paths of both files.
    """
    json_file, page = folder / "audit.json", folder / "audit.html"
    write_json(json_file, report.to_dict())
    write_page(
        page,
        "audit_report.html",
        **report.to_dict(),
        tag=_TAGS[report.verdict],
        sections=[
            {
                **_probe(outcome),
                "tag": _TAGS[outcome.verdict],
                "pictures": [_panel(panel) for panel in outcome.result.panels],
            }
            for outcome in report.outcomes
        ],
        shown=_SHOWN,
    )
    return json_file, page


def _probe(outcome: ProbeOutcome) -> dict[str, Any]:
    probe = outcome.probe
    return {
        "name": probe.name,
        "title": probe.title,
        "question": probe.question,
        "rule": probe.rule,
        "limits": probe.limits,
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
        "p_value": outcome.result.p_value,
        "adjusted_p": outcome.adjusted_p,
        "statistics": [
            {name: _finite(value) for name, value in asdict(statistic).items() if name != "key"}
            for statistic in outcome.result.statistics
        ],
    }


def _snake_case(words: str) -> str:
    return re.sub(r"[^\w.]+", "_", words).strip("_").lower()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _smallest_p(outcome: ProbeOutcome) -> str:
    tested = [s for s in outcome.result.statistics if s.p_value is not None]
    if not tested:
        return ""
    smallest = tested[0] if outcome.result.telling else min(tested, key=lambda s: s.p_value or 0.0)
    return f"{smallest.name}: {number_with_interval(smallest.value, smallest.low, smallest.high)}"


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "caption": panel.caption,
        "tiles": [{"heading": heading, "source": _data_uri(pixels)} for heading, pixels in panel.tiles],
    }


def _data_uri(pixels: np.ndarray[tuple[int, int], np.dtype[np.float32]] | FloatArray) -> str:
    return image_uri(Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)).resize((_TILE, _TILE)))
