"""What an probe is: a question, a way to answer it with a number, and the rule that turns it into a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cxr_isnet.audit.audit_context import AuditContext
from cxr_isnet.audit.audited_model import AuditedModel
from cxr_isnet.audit.statistics import ProbeResult


class Capability(StrEnum):
    """What a model may be able to answer beside probabilities; named as in `AuditedModel`."""

    FEATURES = "features"
    HEATMAPS = "heatmaps"
    RANDOMISED = "randomised"

    @property
    def told(self) -> str:
        """In words."""
        return "heatmaps of random weights" if self is Capability.RANDOMISED else self.value


@dataclass(frozen=True)
class Probe:
    """One probe.

    Attributes:
        name: short, for files and trackers.
        title: for the report.
        question: what it asks.
        rule: when its answer is a sign of a shortcut.
        limits: what it cannot tell.
        needs: what a model must answer beside probabilities.
        run: context to numbers.
        checks_heatmaps: it looks for heatmaps that tell nothing, not for a shortcut.
    """

    name: str
    title: str
    question: str
    rule: str
    limits: str
    needs: tuple[Capability, ...]
    run: Callable[[AuditContext], ProbeResult]
    checks_heatmaps: bool = False

    def missing(self, model: AuditedModel) -> tuple[Capability, ...]:
        """What the model cannot answer."""
        return tuple(capability for capability in self.needs if getattr(model, capability.value) is None)
