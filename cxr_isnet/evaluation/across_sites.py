"""One number over several sites: its mean inside them, how far they differ, and what to expect of the next hospital.

Pooling the images of several hospitals and then computing an AUC compares ill patients of one hospital with healthy
ones of another, so that a model which only knows the hospital does well where hospitals differ in prevalence. So the
number is computed inside every site, and summarised over them:

- the *mean within sites*, in which every site counts alike, whatever its size. How many images a site contributed is an
  accident of collection, and weighting by it would let one large hospital speak for all; the question is how the model
  does in a hospital, not on an image. The price is that small sites add noise, which the interval shows. It is the
  definition of `within_site_auc` in the gate of the registry, in the audit and in `compare` as well;
- a *random-effects summary*, for which the sites are a sample of hospitals: Paule and Mandel's variance between them,
  Hartung and Knapp's interval of the mean, never narrower than that of a fixed effect, I2, and the prediction interval
  of a further hospital.

Source:
    Paule & Mandel, Journal of Research of the National Bureau of Standards 87:377 (1982). Hartung & Knapp, Statistics
    in Medicine 20:3875 (2001). Higgins, Thompson & Spiegelhalter, JRSS A 172:137 (2009) on prediction intervals. Debray
    et al., BMJ 356:i6460 (2017) on external validation over several sites; Snell et al., Statistical Methods in Medical
    Research 27:3505 (2018) on the scale: logit for shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import chi2
from scipy.stats import t as student

from cxr_isnet.evaluation.confusion import FloatArray, metric_of_class
from cxr_isnet.evaluation.interval import (
    LEVELS,
    Interval,
    IntervalMethod,
    log_interval,
    no_interval,
    score_interval,
    student_interval,
    student_quantile,
)
from cxr_isnet.evaluation.metrics import Scale, class_metrics, compared_metrics, overall_metrics
from cxr_isnet.evaluation.site import POOLED, SiteResult

FEW_SITES = 5
"""Intervals of the random-effects summary of fewer sites are marked as approximate: so few say little of their
spread."""


@dataclass(frozen=True)
class AcrossSites:
    """A metric, or a difference of two models, over sites.

    Attributes:
        sites: where it is defined.
        mean: within sites, every site counting alike; of these very sites.
        hospitals: random-effects mean, of the hospitals that these sites are a sample of; NaN of fewer than two.
        next_hospital: prediction interval around it; NaN of fewer than three sites.
        tau: standard deviation between hospitals, of the logit of a share, of the logarithm of a ratio.
        i2: share of the variance of the sites' numbers that is between them and not by chance.
        heterogeneity_p: of Cochran's test that the sites are alike.
        lowest: smallest value of a site.
        highest: largest value of a site.
        pooled: of the images of all sites together; None of differences that have none.
        pooled_outside: it lies outside the range of the sites, so that it says something of the hospitals' mixture.
    """

    sites: tuple[str, ...]
    mean: Interval
    hospitals: Interval
    next_hospital: Interval
    tau: float
    i2: float
    heterogeneity_p: float
    lowest: float
    highest: float
    pooled: Interval | None = None
    pooled_outside: bool = False


def results_across_sites(sites: Mapping[str, SiteResult]) -> dict[str, AcrossSites]:
    """Every metric of one model over its sites, by its key; empty of a single site.

    A metric that needs every class is taken from the sites that have all classes of the table, or, if none has, from
    those where it is defined.

    Args:
        sites: site to result, all pooled last.
    """
    single = {name: found for name, found in sites.items() if name != POOLED}
    if POOLED not in sites:
        return {}
    whole = comparable_sites(single)
    found = {}
    for metric in overall_metrics():
        chosen = whole if metric.needs_every_class else list(single)
        intervals = {site: single[site].metrics[metric.name] for site in chosen}
        found[metric.name] = across(intervals, metric.scale, sites[POOLED].metrics[metric.name])
    for metric in class_metrics():
        for name in (name for name, pooled in sites[POOLED].by_class.items() if metric.name in pooled):
            intervals = {site: single[site].by_class[name][metric.name] for site in single}
            key = metric_of_class(metric.name, name)
            found[key] = across(intervals, metric.scale, sites[POOLED].by_class[name][metric.name])
    return found


def comparable_sites(single: Mapping[str, SiteResult]) -> list[str]:
    """Sites whose images are of all classes that any site has; all sites if there is none."""
    every = {name for found in single.values() for name in found.classes_present}
    return [site for site, found in single.items() if set(found.classes_present) == every] or list(single)


def differences_across_sites(
    by_site: Mapping[str, Mapping[str, Interval]], whole: Sequence[str]
) -> dict[str, AcrossSites]:
    """Every compared metric of one model minus another, over sites.

    Args:
        by_site: site to metric to difference, all pooled last if there are several.
        whole: `comparable_sites`.
    """
    single = [site for site in by_site if site != POOLED or len(by_site) == 1]
    return {
        metric.name: across(
            {site: by_site[site][metric.name] for site in (whole if metric.needs_every_class else single)},
            Scale.REAL,
            by_site[POOLED][metric.name] if len(by_site) > 1 else None,
        )
        for metric in compared_metrics()
    }


def across(sites: Mapping[str, Interval], scale: Scale, pooled: Interval | None = None) -> AcrossSites:
    """One number over sites.

    Args:
        sites: site to number; those without one take no part, those without an interval none in the random effects.
        scale: of its values.
        pooled: of all images together.

    Example:
        >>> alder, birch = (score_interval(share, 0.05, 60) for share in (0.46, 0.54))
        >>> found = across({"Alder": alder, "Birch": birch}, Scale.SHARE, score_interval(0.87, 0.02, 120))
        >>> f"{found.mean.estimate:.2f}", found.pooled_outside
        ('0.50', True)
    """
    there = {site: found for site, found in sites.items() if math.isfinite(found.estimate)}
    estimates = np.array([found.estimate for found in there.values()], dtype=np.float64)
    lowest, highest = (float(estimates.min()), float(estimates.max())) if len(there) else (math.nan, math.nan)
    outside = pooled is not None and len(there) > 1 and not lowest <= pooled.estimate <= highest
    random = _random_effects([found for found in there.values() if math.isfinite(found.low)], scale)
    return AcrossSites(
        tuple(there), _mean(list(there.values()), scale), *random, lowest, highest, pooled, outside and _known(pooled)
    )


def _known(found: Interval | None) -> bool:
    return found is not None and math.isfinite(found.estimate)


def _mean(found: Sequence[Interval], scale: Scale) -> Interval:
    """Mean over sites, of ratios the geometric one; degrees of freedom after Satterthwaite, from the patients of
    each."""
    if not found:
        return no_interval(math.nan, IntervalMethod.STUDENT)
    if len(found) == 1:
        return found[0]
    estimates = np.array([one.estimate for one in found])
    geometric = scale is Scale.RATIO and bool((estimates > 0).all())
    mean = float(np.exp(np.log(estimates).mean()) if geometric else estimates.mean())
    patients = np.array([one.patients or 0 for one in found], dtype=np.float64)
    variances = np.array([_error(one) ** 2 for one in found])
    if not variances.sum() > 0:
        return no_interval(mean, IntervalMethod.STUDENT)
    degrees = float(variances.sum() ** 2 / (variances**2 / np.maximum(patients - 1, 1)).sum())
    error = float(np.sqrt(variances.sum())) / len(found)
    resting = max(2, int(degrees) + 1)
    if scale is Scale.SHARE:
        made = score_interval(mean, error, resting)
    else:
        made = log_interval(mean, error, resting) if scale is Scale.RATIO else student_interval(mean, error, resting)
    return replace(made, patients=int(patients.sum()), approximate=any(one.approximate for one in found))


def _error(found: Interval) -> float:
    """Standard error of a site's number; of a share of 0 or 1, whose resamples have none, what its interval implies."""
    if found.standard_error is not None and math.isfinite(found.standard_error) and found.estimate not in (0.0, 1.0):
        return found.standard_error
    if math.isfinite(found.low):
        return (found.high - found.low) / (2 * student_quantile(max(found.patients or 2, 2)))
    return 0.5  # a single patient: as much as a share can vary


def _random_effects(found: Sequence[Interval], scale: Scale) -> tuple[Interval, Interval, float, float, float]:
    """Mean over hospitals, prediction interval, tau, I2, and p of Cochran's test."""
    unknown = no_interval(math.nan, IntervalMethod.META)
    if len(found) < 2:
        return unknown, unknown, math.nan, math.nan, math.nan
    values, variances = _transformed(found, scale)
    usable = np.isfinite(values) & np.isfinite(variances) & (variances > 0)
    values, variances, sites = values[usable], variances[usable], int(usable.sum())
    if sites < 2:
        return unknown, unknown, math.nan, math.nan, math.nan
    weights = 1 / variances
    q = _q(values, variances, 0.0)
    tau2 = _paule_mandel(values, variances)
    weights = 1 / (variances + tau2)
    centre = float(weights @ values / weights.sum())
    spread = max(1.0, float(weights @ (values - centre) ** 2) / (sites - 1))
    error = math.sqrt(spread / weights.sum())
    back = {Scale.SHARE: expit, Scale.RATIO: np.exp}.get(scale, float)
    approximate = sites < FEW_SITES or any(one.approximate for one in found)

    def interval(reach: float) -> Interval:
        low, high = float(back(centre - reach)), float(back(centre + reach))
        return Interval(float(back(centre)), low, high, IntervalMethod.META, approximate=approximate)

    hospitals = interval(float(student.ppf(LEVELS[1], sites - 1)) * error)
    ahead = unknown
    if sites > 2:
        ahead = interval(float(student.ppf(LEVELS[1], sites - 2)) * math.sqrt(tau2 + error**2))
    i2 = max(0.0, (q - (sites - 1)) / q) if q > 0 else 0.0
    return hospitals, ahead, math.sqrt(tau2), i2, float(chi2.sf(q, sites - 1))


def _transformed(found: Sequence[Interval], scale: Scale) -> tuple[FloatArray, FloatArray]:
    """Values and variances on the scale on which they are about normal.

    Where a share is 0 or 1, its logit and the error of that are read off the ends of its interval, the outer of which
    is taken half way to the limit.
    """
    values, errors = [], []
    for one in found:
        if scale is Scale.REAL:
            values.append(one.estimate)
            errors.append(_error(one))
        elif scale is Scale.RATIO:
            values.append(math.log(one.estimate))
            errors.append(_error(one))
        elif 0 < one.estimate < 1:
            values.append(float(logit(one.estimate)))
            errors.append(_error(one) / (one.estimate * (1 - one.estimate)))
        else:
            inner = one.low if one.estimate == 1 else one.high
            outer = (inner + 3 * one.estimate) / 4
            values.append(float(logit((inner + one.estimate) / 2)))
            errors.append(abs(float(logit(outer) - logit(inner))) / (2 * student_quantile(max(one.patients or 2, 2))))
    return np.array(values), np.array(errors) ** 2


def _q(values: FloatArray, variances: FloatArray, tau2: float) -> float:
    """Cochran's Q, weighted by the variance between sites as well."""
    weights = 1 / (variances + tau2)
    return float(weights @ (values - weights @ values / weights.sum()) ** 2)


def _paule_mandel(values: FloatArray, variances: FloatArray) -> float:
    """The variance between sites with which Q is what it is expected to be; 0 if even without one it is no more."""
    expected = len(values) - 1
    if _q(values, variances, 0.0) <= expected:
        return 0.0
    high = float(np.ptp(values)) ** 2 + 1e-12
    while _q(values, variances, high) > expected:
        high *= 2
    return float(brentq(lambda tau2: _q(values, variances, tau2) - expected, 0.0, high))
