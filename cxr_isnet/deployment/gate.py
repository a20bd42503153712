"""The gate before a model becomes the champion: rules on external hospitals, each with its evidence and its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cxr_isnet.deployment.gate_config import GateConfig
from cxr_isnet.deployment.gate_rules import RULES, Evidence, MissingEvidence


@dataclass(frozen=True)
class Check:
    """One rule, and whether it holds.

    Attributes:
        rule: Name of the rule.
        passed: It holds.
        reason: Why or why not, with the numbers.
    """

    rule: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """Whether a model passes the gate, and why.

    Attributes:
        candidate: Name of the model.
        champion: Name of the champion it was compared with; "" without one.
        checks: Of every rule that is asked.
        gate: The rules.
    """

    candidate: str
    champion: str
    checks: tuple[Check, ...]
    gate: GateConfig

    @property
    def passed(self) -> bool:
        """Every rule that is asked holds, and at least one is asked."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def text(self) -> str:
        """A line for each rule, and the verdict."""
        lines = [f"{'passed' if c.passed else 'FAILED':<7} {c.rule}: {c.reason}" for c in self.checks]
        return "\n".join([*lines, f"gate: {'passed' if self.passed else 'not passed'}"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "candidate": self.candidate,
            "champion": self.champion,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
            "gate": asdict(self.gate),
        }


def decide(candidate: Evidence, champion: Evidence | None, gate: GateConfig) -> Decision:
    """Applies a gate.

    Args:
        candidate: What is known of the model.
        champion: What is known of the one that is in use; None where none is.
        gate: The rules.
    """
    asked: dict[str, bool] = {
        "external hospitals": True,
        "floor": gate.floor is not None,
        "champion": gate.margin is not None,
        "thumbnail": gate.better_than_thumbnail,
        "relevance": gate.relevance_excess is not None,
        "audit": gate.audit,
        "calibration": gate.calibration is not None,
        "unseen data": gate.unseen_data,
    }
    checks = []
    for rule, wanted in asked.items():
        if not wanted:
            continue
        try:
            passed, reason = RULES[rule](candidate, champion, gate)
        except MissingEvidence as missing:
            passed, reason = False, f"no evidence: {missing}"
        checks.append(Check(rule, passed, reason))
    return Decision(candidate.name, champion.name if champion else "", tuple(checks), gate)


def lines_of(decision: Decision) -> Iterator[str]:
    """The decision as Markdown, for the description of a registered version."""
    against = f", compared with {decision.champion}" if decision.champion else ""
    yield f"Gate **{'passed' if decision.passed else 'not passed'}**{against}."
    yield ""
    for check in decision.checks:
        yield f"- {'passed' if check.passed else '**failed**'}: {check.rule}: {check.reason}"
