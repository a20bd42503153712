"""How probabilities become a decision: the rule, and the threshold that is frozen on in-domain validation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.confusion import FloatArray, IntArray


@dataclass(frozen=True)
class DecisionRule:
    """From probabilities to a class.

    Attributes:
        threshold: of two classes, the second is predicted from this probability on; None takes the most probable class.
        origin: where the rule comes from, in words.
        by_site: thresholds in place of `threshold` where every site has a model of its own; empty elsewhere.
        tells_nothing: no threshold tells the classes of the validation table apart better than chance.
    """

    threshold: float | None = None
    origin: str = "most probable class; no threshold was fitted"
    by_site: Mapping[str, float] = field(default_factory=dict)
    tells_nothing: bool = False

    def decide(self, y_score: FloatArray, sites: Iterable[str] = ()) -> IntArray:
        """Probabilities (N, C) to the index of the class predicted (N,).

        Args:
            y_score: (N, C) probabilities.
            sites: of the N images; looked at only if the thresholds differ by site.
        """
        if self.by_site:
            thresholds = np.array([self.by_site[site] for site in sites], dtype=np.float64)
            return (y_score[:, 1] >= thresholds).astype(np.int64)
        if self.threshold is None:
            return np.asarray(y_score.argmax(axis=1), dtype=np.int64)
        return (y_score[:, 1] >= self.threshold).astype(np.int64)


ARGMAX = DecisionRule()

CROSS_FITTING_PARTS = 10


@dataclass(frozen=True)
class ShippedDecision:
    """How a model decides where it is used, as its training fitted it; evaluated for want of a validation table.

    Attributes:
        rule: from probabilities to a class.
        temperature: of calibrated probabilities; NaN for none.
    """

    rule: DecisionRule = ARGMAX
    temperature: float = float("nan")

    @classmethod
    def of(cls, threshold: float | None, temperature: float, classes: Sequence[str]) -> "ShippedDecision":
        """Of what a checkpoint holds: no threshold is None, and no temperature 1."""
        rule = ARGMAX
        if threshold is not None:
            rule = DecisionRule(
                threshold, f"{classes[1]} from probability {threshold:.4g} on: shipped with the model, frozen"
            )
        return cls(rule, temperature if temperature != 1 else float("nan"))


def frozen_rule(
    y_true: IntArray, y_score: FloatArray, classes: Sequence[str], *, sensitivity: float | None, source: str
) -> DecisionRule:
    """The rule fitted on in-domain validation, to be used unchanged everywhere else.

    Args:
        y_true: (N,) index of the class; -1 where unknown.
        y_score: (N, C) probabilities.
        classes: C names.
        sensitivity: of two classes, the least sensitivity for the second that the threshold must reach, with the
            highest specificity that allows; None takes the threshold of the highest Youden index (sensitivity +
            specificity - 1).
        source: name of the validation table.

    Returns:
        Two classes: a threshold, one of the probabilities seen; the most probable class, marked as telling nothing,
        where no threshold has a Youden index above 0. More: the most probable class.

    Raises:
        InputError: two classes of which the validation table lacks one; a sensitivity for more than two classes.
    """
    if len(classes) != 2:
        if sensitivity is not None:
            raise InputError(f"sensitivity is {sensitivity}, but there are {len(classes)} classes: it needs two")
        return DecisionRule(None, f"most probable class of {len(classes)}; validation fits no threshold for these")
    scores = y_score[y_true >= 0, 1]
    positive = y_true[y_true >= 0] == 1
    if not positive.any() or positive.all():
        raise InputError(
            f"{source}: column 'label' names only one of the classes {list(classes)}, so that no threshold can be "
            "fitted. Give a validation table with both, or none, to take the most probable class"
        )
    thresholds = np.unique(scores)
    hit = _share_from(scores[positive], thresholds)
    alarm = _share_from(scores[~positive], thresholds)
    if not (hit - alarm).max() > 0:
        origin = f"most probable class: the model tells nothing on {source}, where no threshold is better than chance"
        return DecisionRule(None, origin, tells_nothing=True)
    if sensitivity is None:
        best = int(np.argmax(hit - alarm))
        wish = "highest Youden index"
    else:
        best = int(np.flatnonzero(hit >= sensitivity)[-1])
        wish = f"sensitivity of at least {sensitivity:g}"
    chosen = float(thresholds[best])
    return DecisionRule(
        chosen, f"{classes[1]} from probability {chosen:.4g} on: {wish} on the validation table, frozen"
    )


def cross_fitted_decisions(
    y_true: IntArray,
    y_score: FloatArray,
    classes: Sequence[str],
    patients: IntArray,
    *,
    sensitivity: float | None,
) -> IntArray | None:
    """Class predicted of each validation image (N,) by a rule that was fitted on other patients.

    A rule looks better on the images on which it was fitted than on others of the same hospital. So the patients are
    dealt into ten parts, and each is decided upon by the rule of the other nine.

    Args:
        y_true: (N,) index of the class; -1 where unknown.
        y_score: (N, C) probabilities.
        classes: C names.
        patients: (N,) number of the patient.
        sensitivity: as of `frozen_rule`.

    Returns:
        None where there are too few patients of a class: fewer than two of two classes. Of more classes nothing is
        fitted, and this is the most probable class.
    """
    if len(classes) != 2:
        return ARGMAX.decide(y_score)
    has_positive = np.bincount(patients, weights=y_true == 1) > 0
    part = np.empty(len(has_positive), dtype=np.int64)
    part[np.argsort(has_positive, kind="stable")] = np.arange(len(part)) % CROSS_FITTING_PARTS
    decisions = np.empty(len(y_true), dtype=np.int64)
    for number in np.unique(part[patients]):
        here = part[patients] == number
        if len(np.unique(y_true[~here & (y_true >= 0)])) < 2:
            return None
        rule = frozen_rule(y_true[~here], y_score[~here], classes, sensitivity=sensitivity, source="other patients")
        decisions[here] = rule.decide(y_score[here])
    return decisions


def _share_from(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Share of the scores at or above each threshold."""
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return np.asarray(1 - below / len(scores), dtype=np.float64)
