"""Pairs of an X-ray and a given lung mask, on which a segmenter is trained and evaluated, and their splits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from cxr_isnet.data import check_files
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifests, split_by_patient
from cxr_isnet.networks import Heart

PREDICTED = "predicted by "
"""Beginning of `mask_source` of a predicted mask; the first digits of the segmenter's digest follow."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairSplits:
    """The pairs of one training, by what they are used for.

    Attributes:
        training: The weights are fitted to them.
        validation: In-domain, of other patients: chooses the epoch.
        tests: The segmenter is evaluated on them, by name.
    """

    training: pd.DataFrame
    validation: pd.DataFrame
    tests: Mapping[str, pd.DataFrame]


def is_predicted(frame: pd.DataFrame) -> pd.Series:
    """Which rows have a predicted mask, by column `mask_source`; none where there is no such column."""
    if "mask_source" not in frame.columns:
        return pd.Series(False, index=frame.index)
    return (frame["mask"] != "") & frame["mask_source"].str.startswith(PREDICTED)


def read_pairs(manifests: Sequence[str], heart_included: Sequence[str] = ()) -> pd.DataFrame:
    """The rows with a given mask, all their files checked.

    Args:
        manifests: Tables, or column mappings (YAML).
        heart_included: Those of the manifests whose masks include the heart.

    Returns:
        The rows, with a column `heart` (`Heart`) where `heart_included` is not empty.

    Raises:
        InputError: As `read_manifests`; a file cannot be used; no row has a given mask; a site has masks of both kinds.
    """
    frame = read_manifests(manifests)
    if heart_included:
        including = [name for name in manifests if name in heart_included]
        sites = set(read_manifests(including)["site"]) if including else set()
        leaving_out = [name for name in manifests if name not in heart_included]
        both = sorted(sites & set(read_manifests(leaving_out)["site"])) if leaving_out else []
        if both:
            raise InputError(
                f"column 'site': {both} is in a manifest of heart_included and in another one: give the rows whose "
                "masks include the heart a site of their own"
            )
        frame["heart"] = [Heart.INCLUDED if site in sites else Heart.LEFT_OUT for site in frame["site"]]
    given = (frame["mask"] != "") & ~is_predicted(frame)
    pairs = frame[given].reset_index(drop=True)
    _log.info("%s: %d of %d images have a given lung mask", ", ".join(manifests), len(pairs), len(frame))
    if pairs.empty:
        raise InputError(
            f"column 'mask' of {', '.join(manifests)}: no image has a given lung mask. Name a manifest with masks"
        )
    check_files(pairs)
    return pairs


def read_splits(
    training: Sequence[str], external: Sequence[str], fraction: float, seed: int, heart_included: Sequence[str] = ()
) -> PairSplits:
    """Reads the training pairs, split by patient, and the external ones.

    Args:
        training: Manifests to train and validate on.
        external: Manifests of sites that are in no training manifest.
        fraction: Share of the patients that validate, where the manifests do not give their split.
        seed: Of the split.
        heart_included: Those of both whose masks include the heart.

    Returns:
        Tests "validation" and, where there are external manifests, "external".

    Raises:
        InputError: As `read_pairs`; one split is empty; a site is both trained on and external.
    """
    pairs = read_pairs(training, heart_included)
    frame = split_by_patient(pairs, validation_fraction=fraction, seed=seed)
    splits = {name: frame[frame["split"] == name].reset_index(drop=True) for name in ("train", "val")}
    for name, rows in splits.items():
        if rows.empty:
            raise InputError(
                f"column 'mask' of {', '.join(training)}: no image with a given mask is in split '{name}'. Add "
                "patients, or change column 'split'"
            )
    tests = {"validation": splits["val"]}
    if external:
        tests["external"] = read_pairs(external, heart_included)
        shared = sorted(set(tests["external"]["site"]) & set(frame["site"]))
        if shared:
            raise InputError(f"column 'site': {shared} is both in training and in external; an external site is unseen")
    return PairSplits(splits["train"], splits["val"], tests)


def patient_folds(frame: pd.DataFrame, folds: int, fraction: float, seed: int) -> Iterator[PairSplits]:
    """Cross-validation: each patient is tested once; every site is in every fold as evenly as its patients allow.

    Args:
        frame: Pairs; column `split` is ignored.
        folds: Number of folds.
        fraction: Share of the remaining patients that validate.
        seed: Of both divisions.

    Yields:
        The splits of a fold, with the test "test".

    Raises:
        InputError: There are fewer patients than folds.
    """
    patients = frame.groupby(["site", "patient_id"]).ngroup()
    if patients.nunique() < folds:
        raise InputError(f"{patients.nunique()} patients with a mask do not make {folds} folds: set fewer folds")
    divide = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for remaining_rows, tested in divide.split(frame, frame["site"], patients):
        remaining = frame.iloc[remaining_rows].assign(split="")
        split = split_by_patient(remaining, validation_fraction=fraction, seed=seed)
        yield PairSplits(
            split[split["split"] == "train"].reset_index(drop=True),
            split[split["split"] == "val"].reset_index(drop=True),
            {"test": frame.iloc[tested].reset_index(drop=True)},
        )
