"""Findings of checks: records that a report prints, never exceptions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from cxr_isnet.evaluation import Interval, interval_text
from cxr_isnet.manifests import ColumnProblem, Place


class Severity(Enum):
    """Severity of a finding, worst first."""

    UNUSABLE = "unusable"
    """The table cannot be read or breaks the schema."""
    ERROR = "error"
    """Training will refuse it, or its result would be wrong."""
    WARNING = "warning"
    """Suspect: to be reviewed by a person."""
    INFO = "info"
    """For information; nothing has to be done."""


@dataclass(frozen=True)
class Picture:
    """An image to show beside a finding.

    Attributes:
        image: path of the X-ray.
        mask: path of a lung mask to outline on it; "" for none.
        box: left, top, width and height of a frame to draw, as shares of the image's sides.
    """

    image: str
    mask: str = ""
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Contingency:
    """Contingency table of the labels and another property of the patients.

    Attributes:
        property: name of the property, as "site".
        values: its values, the most frequent first; one name per row of `counts`.
        labels: one name per column of `counts`.
        counts: patients, each counted once for every value and label that it has.
        cramers_v: strength of the association, 0 to 1, corrected for bias.
        p_value: share of random assignments of labels that are associated as strongly.
    """

    property: str
    values: tuple[str, ...]
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    cramers_v: float
    p_value: float


@dataclass(frozen=True)
class ControlScore:
    """What a control reaches: a classifier that sees no lungs.

    Attributes:
        control: its name.
        moved_to: table that it is tested on; "" for the tables that it learned from, by cross-validation over patients.
        n_images: that it was tested on.
        auc: of more than two labels, Hand and Till's.
    """

    control: str
    moved_to: str
    n_images: int
    auc: Interval

    def __str__(self) -> str:
        """As "within 0.880 (0.853 to 0.905), 662 images"."""
        where = f"moved to {self.moved_to}" if self.moved_to else "within"
        return f"{where} {interval_text(self.auc)}, {self.n_images} images"


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    Attributes:
        check: name of the check.
        severity: worst first, `Severity`.
        message: the problem and its remedy.
        places: rows of the tables; none for a whole table.
        column: column of the tables; "" for none.
        value: that was found; "" for none.
        pictures: images to show.
        contingency: table of an association.
        controls: what controls reach.
    """

    check: str
    severity: Severity
    message: str
    places: tuple[Place, ...] = ()
    column: str = ""
    value: str = ""
    pictures: tuple[Picture, ...] = ()
    contingency: Contingency | None = None
    controls: tuple[ControlScore, ...] = ()


def from_problem(problem: ColumnProblem, check: str, severity: Severity, pictures: Iterable[Picture] = ()) -> Finding:
    """Finding of a manifest's problem.

    Args:
        problem: its values are indexed by `Place`, or by the number of the row in `problem.table`.
        check: name of the check.
        severity: of the finding.
        pictures: images to show.
    """
    places = tuple(row if isinstance(row, Place) else Place(problem.table, int(row)) for row in problem.values.index)
    values = tuple(dict.fromkeys(str(value) for value in problem.values))
    value = values[0] if len(values) == 1 else ""
    return Finding(check, severity, str(problem), places, problem.column, value, tuple(pictures))


def exit_status(findings: Iterable[Finding]) -> int:
    """Exit status of a command: 0 when nothing has to be done, 1 for errors or warnings, 2 when a table is unusable."""
    worst = {finding.severity for finding in findings}
    if Severity.UNUSABLE in worst:
        return 2
    return 1 if worst & {Severity.ERROR, Severity.WARNING} else 0
