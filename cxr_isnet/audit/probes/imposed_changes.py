"""Which changes of an image move the answer, and do the classes of the training hospitals differ in them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from torch import Tensor
from tqdm import tqdm

from cxr_isnet.audit.audit_set import AuditSet
from cxr_isnet.audit.probe import AuditContext, Probe
from cxr_isnet.audit.statistics import LEVEL, MacroMean, Panel, ProbeResult, Statistic, one_sided_test
from cxr_isnet.audit.training_images import Resemblance
from cxr_isnet.data import IMPOSED_CHANGES, ImposedChange
from cxr_isnet.evaluation import FloatArray, HandTillAUC, IntArray, WithinSiteAUC

MOVE = 0.2
"""Move of the AUC from which a change counts as read."""
SHIFT = 0.1
"""Least shift of the probability that goes with it: a model that knows nothing has an AUC that anything moves."""
REVERSAL = 0.1
"""Shift beyond what a model that tells all classes apart can show when it gives every image one answer."""
DIFFERENT = 0.65
"""AUC from which the classes of the training hospitals count as different."""
MAX_IMAGES = 80


class MoveOfAUC:
    """AUC of a class, its images changed and the others not, less the AUC with the others changed and its own not."""

    def __init__(self, is_class: IntArray, plain: FloatArray, changed: FloatArray):
        """1 for an image of the class, else 0 (N,); probability of the class (N,) of plain and of changed images."""
        self._aligned, self._opposed = (
            HandTillAUC(is_class, np.stack([-score, score], axis=1))
            for score in (np.where(is_class, changed, plain), np.where(is_class, plain, changed))
        )

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Value (R,) for every row of weights (R, N)."""
        return self._aligned(weights) - self._opposed(weights)


@dataclass(frozen=True)
class _Effect:
    """What one change does.

    Attributes:
        change: Which.
        label: Class that it moves the answer to.
        statistics: Move and shift, and the difference of the training hospitals where they are known.
        read: p-value that the model reads it.
        shortcut: p-value that it is a shortcut.
    """

    change: ImposedChange
    label: str
    statistics: tuple[Statistic, ...]
    read: float
    shortcut: float


def run(context: AuditContext) -> ProbeResult:
    """For every change and dose: how far it moves the AUC and the probabilities; the worst dose of every kind."""
    rows = context.data.stratified_rows(MAX_IMAGES, context.seed)
    data, plain = context.data.subset(rows), context.probabilities[rows]
    training = None if context.training is None else context.training.seen
    resemblance = None if training is None else Resemblance(training)
    effects, shown = [], {}
    for change in tqdm(IMPOSED_CHANGES, desc="imposed changes", unit="change", disable=None, leave=False):
        images = change.apply(data.images, data.masks)
        changed = context.in_batches(context.model.probabilities, images, change.name)
        effect = _effect(context, change, data, plain, changed)
        if training is not None and resemblance is not None and effect.read * len(IMPOSED_CHANGES) < LEVEL:
            effect = _with_training(context, effect, training, resemblance(change))
        effects.append(effect)
        shown[change.name] = images[:1]
    worst = sorted(_worst_of_kind(effects), key=lambda e: (e.shortcut, e.read, -e.statistics[0].value))
    p_value = min(1.0, 2 * len(effects) * min(e.shortcut for e in effects))
    statistics = tuple(s for effect in worst for s in effect.statistics)
    reason, undecided = _reading(effects, training is not None)
    panels = (_panel(context, data, [(e.change.name, shown[e.change.name]) for e in worst[:4]]),)
    return ProbeResult(
        statistics, p_value, reason, panels, telling=_found(effects, worst), undecided=undecided and p_value >= LEVEL
    )


def _effect(
    context: AuditContext, change: ImposedChange, data: AuditSet, plain: FloatArray, changed: FloatArray
) -> _Effect:
    labels = np.unique(data.labels)
    shifts = np.mean([(changed - plain)[data.labels == label].mean(0) for label in labels], axis=0)
    target = int(shifts.argmax())
    name, bootstrap, count = data.classes[target], context.bootstrap_of(data), len(data)
    shift = MacroMean((changed - plain)[:, target], data.labels)
    reversal = 1 - 1 / len(labels) + REVERSAL
    strong = one_sided_test("", shift, bootstrap, count, threshold=reversal)
    moved = one_sided_test(
        f"{change.name}: move of the AUC of '{name}'",
        MoveOfAUC((data.labels == target).astype(np.int64), plain[:, target], changed[:, target]),
        bootstrap, count, threshold=MOVE, key=f"{change.kind} auc_move",
    )  # fmt: skip
    shifted = one_sided_test(
        f"{change.name}: shift of its probability, classes weighing the same",
        shift, bootstrap, count, threshold=SHIFT, key=f"{change.kind} probability_shift",
    )  # fmt: skip
    read = max(_p(moved), _p(shifted))
    return _Effect(change, name, (moved, shifted), read, _p(strong))


def _with_training(context: AuditContext, effect: _Effect, training: AuditSet, scores: FloatArray) -> _Effect:
    """The effect with the test whether, in the training hospitals, the class looks more as if the change had been
    imposed than the others: within hospitals, and over all."""
    is_class = (training.labels == training.classes.index(effect.label)).astype(np.int64)
    columns = np.stack([-scores, scores], axis=1)
    bootstrap, tests = context.bootstrap_of(training), []
    sites = {"all training hospitals": np.zeros_like(training.sites), "within training hospitals": training.sites}
    for where, groups in sites.items():
        if _comparable(is_class, groups):
            title = f"{effect.change.name}: AUC of '{effect.label}' looking so, {where}"
            metric = WithinSiteAUC(is_class, columns, groups)
            key = f"{effect.change.kind} auc {where}"
            tests.append(one_sided_test(title, metric, bootstrap, len(training), threshold=DIFFERENT, key=key))
    if not tests:
        return effect
    different = min(1.0, len(tests) * min(map(_p, tests)))
    shortcut = min(effect.shortcut, max(effect.read, different))
    return _Effect(effect.change, effect.label, (*effect.statistics, *tests), effect.read, shortcut)


def _comparable(is_class: IntArray, groups: IntArray) -> bool:
    return any(len(np.unique(is_class[groups == group])) == 2 for group in np.unique(groups))


def _p(statistic: Statistic) -> float:
    return 1.0 if statistic.p_value is None else statistic.p_value


def _worst_of_kind(effects: Sequence[_Effect]) -> list[_Effect]:
    kinds = groupby(sorted(effects, key=lambda e: e.change.kind), key=lambda e: e.change.kind)
    return [min(group, key=lambda e: (e.shortcut, e.read, -e.statistics[0].value)) for _, group in kinds]


def _found(effects: Sequence[_Effect], worst: Sequence[_Effect]) -> str:
    """Every kind that is a shortcut, its worst dose and the class that it speaks for; else the worst of all."""
    alone = [e for e in worst if 2 * len(effects) * e.shortcut < LEVEL] or list(worst[:1])
    return "; ".join(f"{e.change.name}, for '{e.label}'" for e in alone)


def _reading(effects: Sequence[_Effect], training_known: bool) -> tuple[str, bool]:
    """What is to be said beside the verdict, and whether it leaves the verdict open."""
    read = dict.fromkeys(e.change.kind for e in effects if e.read * len(effects) < LEVEL)
    if not read:
        return "", False
    if training_known:
        return f"read, whether or not the classes of the training hospitals differ in it: {', '.join(read)}", False
    return (
        f"the answer moves with {', '.join(read)}; whether the classes of the training hospitals differ in it is not "
        "known: name their manifests with --training"
    ), True


def _panel(context: AuditContext, data: AuditSet, tiles: Sequence[tuple[str, Tensor]]) -> Panel:
    named = [("as it is", data.images[:1]), *tiles]
    return Panel("Changes that moved the answer most", tuple((name, context.tile(i, 0)) for name, i in named))


def kinds() -> tuple[str, ...]:
    """Kinds of changes, in order."""
    return tuple(dict.fromkeys(change.kind for change in IMPOSED_CHANGES))


PROBE = Probe(
    name="imposed_changes",
    title="Imposed changes",
    question="Which changes that a shortcut may consist of move the answer, and how far?",
    rule=(
        "A shortcut, if a change in any dose moves the answer to one class, and the classes of the training hospitals "
        f"differ in it. It moves the answer, if the AUC with that class changed exceeds the AUC with the others "
        f"changed by more than {MOVE}, and the probability shifts by more than {SHIFT} (mean of the classes' means). "
        "The classes differ, if that class's backgrounds look more as if the change had been imposed on them: AUC "
        f"above {DIFFERENT}, over all or within hospitals. A shortcut too, whatever they show, if the "
        f"probability shifts by {REVERSAL} more than it could from a model that tells all classes apart (above "
        f"{0.5 + REVERSAL} for two classes). What only moves the answer is open while the training hospitals are not "
        "known."
    ),
    limits=(
        f"{len(IMPOSED_CHANGES)} changes of the kinds {', '.join(kinds())}, on up to {MAX_IMAGES} images; what "
        "resembles none of them is not found. An answer that moves with noise or blur is fragile, which is no shortcut "
        "by itself."
    ),
    needs=(),
    run=run,
)
