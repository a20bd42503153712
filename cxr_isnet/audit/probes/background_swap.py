"""Does the prediction change with the background, while the lungs stay?"""

from __future__ import annotations

import numpy as np

from cxr_isnet.audit.audit_set import AuditSet
from cxr_isnet.audit.probe import AuditContext, Probe
from cxr_isnet.audit.statistics import MARGIN, Panel, ProbeResult, Statistic, bonferroni, describe, one_sided_test
from cxr_isnet.data import paste_lungs
from cxr_isnet.evaluation import FloatArray, IntArray, WeightedMean

DONORS = 4
"""Backgrounds of each kind that every pair of lungs is pasted on."""


def run(context: AuditContext) -> ProbeResult:
    """Probability and decision on backgrounds of the own class against another's, and of hospital against hospital."""
    data, rng = context.data, context.rng()
    own, other = (_class_donors(data, same, rng) for same in (True, False))
    on_own = _predictions(context, own, "own class's background")
    on_other = _predictions(context, other, "other's background")
    rows = np.arange(len(data))
    pull = (on_own - on_other).mean(0)[rows, data.labels]
    decisions = context.probabilities.argmax(1)
    flips = {
        name: (found.argmax(2) != decisions).mean(0) for name, found in {"own": on_own, "another": on_other}.items()
    }
    bootstrap = context.bootstrap()
    statistics = [
        one_sided_test(
            "probability of the true class: own class's background minus another class's",
            WeightedMean(pull),
            bootstrap,
            int(np.isfinite(pull).sum()),
            threshold=MARGIN,
        ),
        *(
            describe(
                f"share of decisions that flip on a background of {name} class",
                WeightedMean(np.where(np.isfinite(pull), flip, np.nan)),
                bootstrap,
                int(np.isfinite(pull).sum()),
            )
            for name, flip in flips.items()
        ),
        *_site_statistics(context, rng),
    ]
    return ProbeResult(tuple(statistics), bonferroni(statistics), panels=_panels(context, own, other))


def _class_donors(data: AuditSet, same: bool, rng: np.random.Generator) -> IntArray:
    """Rows (DONORS, N) of donors of backgrounds of the same class or of other classes, from the same hospital where it
    has some; -1 where there is none."""
    donors = np.full((DONORS, len(data)), -1, dtype=np.int64)
    for row in range(len(data)):
        fits = (data.patients != data.patients[row]) & ((data.labels == data.labels[row]) == same)
        same_site = fits & (data.sites == data.sites[row])
        pool = np.flatnonzero(same_site if same_site.any() else fits)
        if len(pool):
            donors[:, row] = rng.choice(pool, DONORS)
    return donors


def _site_donors(data: AuditSet, site: int, rng: np.random.Generator) -> IntArray:
    """Rows (DONORS, N) of donors of backgrounds of the same class from one hospital; -1 where there is none."""
    donors = np.full((DONORS, len(data)), -1, dtype=np.int64)
    for row in range(len(data)):
        fits = (data.patients != data.patients[row]) & (data.labels == data.labels[row]) & (data.sites == site)
        if fits.any():
            donors[:, row] = rng.choice(np.flatnonzero(fits), DONORS)
    return donors


def _predictions(context: AuditContext, donors: IntArray, description: str) -> FloatArray:
    """Probabilities (DONORS, N, classes) of the lungs of every row on its donors' backgrounds; NaN without a donor."""
    data = context.data
    found = []
    for round_ in donors:
        images = paste_lungs(data.images, data.masks, data.images[round_], data.masks[round_], context.mean_image)
        probabilities = context.in_batches(context.model.probabilities, images, description)
        found.append(np.where(round_[:, None] >= 0, probabilities, np.nan))
    return np.stack(found)


def _site_statistics(context: AuditContext, rng: np.random.Generator) -> list[Statistic]:
    """For each hospital, how far its backgrounds change every class's probability against those of the others."""
    data = context.data
    if len(data.site_names) < 2:
        return []
    by_site = np.stack(
        [
            _predictions(context, _site_donors(data, site, rng), f"background of {name}").mean(0)
            for site, name in enumerate(data.site_names)
        ]
    )
    count = np.isfinite(by_site).sum(0)
    statistics = []
    for site in range(len(data.site_names) if len(data.site_names) > 2 else 1):
        rest = (np.where(np.isfinite(by_site), by_site, 0.0).sum(0) - by_site[site]) / np.where(
            count > 1, count - 1, np.nan
        )
        for index in range(len(data.classes) if len(data.classes) > 2 else 1):
            moved = (by_site[site] - rest)[:, index]
            statistics.append(
                describe(
                    f"probability of '{data.classes[index]}': backgrounds of {data.site_names[site]} minus those of "
                    "the other hospitals, classes being equal",
                    WeightedMean(moved),
                    context.bootstrap(),
                    int(np.isfinite(moved).sum()),
                )
            )
    return statistics


def _panels(context: AuditContext, own: IntArray, other: IntArray) -> tuple[Panel, ...]:
    data = context.data
    usable = np.flatnonzero((own[0] >= 0) & (other[0] >= 0))
    if not len(usable):
        return ()
    row = int(usable[0])
    lungs, mask = data.images[[row]], data.masks[[row]]
    tiles = [("as it is", context.tile(data.images, row))]
    for name, donor in (("own class's background", own[0, row]), ("another class's background", other[0, row])):
        image = paste_lungs(lungs, mask, data.images[[donor]], data.masks[[donor]], context.mean_image)
        tiles.append((name, context.tile(image, 0)))
    return (Panel("The same lungs on other patients' backgrounds", tuple(tiles)),)


PROBE = Probe(
    name="background_swap",
    title="The same lungs on another background",
    question="Does the prediction follow the background when the lungs stay the same?",
    rule=(
        f"A shortcut, if the probability of the true class is more than {MARGIN} lower on backgrounds of other classes "
        "than on those of the own class, from the same hospital where it has both. How far the backgrounds of a "
        "hospital change the prediction is reported, but shows no shortcut: lungs on the background of a hospital with "
        "another exposure look unusual to a model that takes no shortcut."
    ),
    limits=(
        "Lungs are pasted in place, neither fitted nor matched in grey: where chests or exposures differ a seam shows, "
        "in both arms alike within a hospital. Disease outside the mask comes with the background. Where a hospital "
        "has one class only, class and hospital are swapped together."
    ),
    needs=(),
    run=run,
)
