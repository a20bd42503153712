"""What an examination is: a question, a way to answer it with a number, and the rule that turns it into a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cxr_isnet.audit.audited_model import AuditedModel
from cxr_isnet.audit.measures import Observation
from cxr_isnet.audit.subject import Subject


class Ability(StrEnum):
    """What a model may be able to answer beside probabilities; named as in `AuditedModel`."""

    FEATURES = "features"
    HEATMAPS = "heatmaps"
    RANDOMISED = "randomised"

    @property
    def told(self) -> str:
        """In words."""
        return "heatmaps of random weights" if self is Ability.RANDOMISED else self.value


@dataclass(frozen=True)
class Examination:
    """One examination.

    Attributes:
        name: short, for files and trackers.
        title: for the report.
        question: what it asks.
        rule: when its answer is a sign of a shortcut.
        limits: what it cannot tell.
        needs: what a model must answer beside probabilities.
        examine: subject to numbers.
        checks_heatmaps: it looks for heatmaps that tell nothing, not for a shortcut.
    """

    name: str
    title: str
    question: str
    rule: str
    limits: str
    needs: tuple[Ability, ...]
    examine: Callable[[Subject], Observation]
    checks_heatmaps: bool = False

    def missing(self, model: AuditedModel) -> tuple[Ability, ...]:
        """What the model cannot answer."""
        return tuple(ability for ability in self.needs if getattr(model, ability.value) is None)
