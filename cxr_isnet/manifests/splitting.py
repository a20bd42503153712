"""Split by patient: training and validation sets that share no patient."""

import logging
from collections.abc import Hashable

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError

logger = logging.getLogger(__name__)

Patient = tuple[Hashable, Hashable]


def split_by_patient(frame: pd.DataFrame, *, validation_fraction: float, seed: int) -> pd.DataFrame:
    """Fills `split` with train and val: a stratified group split by patient and label.

    A frame whose rows all have a split is returned as it is. The result depends on the set of rows and the seed, not on
    the order of the rows.

    Args:
        frame: as `read_manifest` returns it; a patient is identified by `site` and `patient_id`.
        validation_fraction: share of each label's images that go to validation, in [0, 1).
        seed: of the random choice of patients.

    Returns:
        A copy with `split` filled. With a positive fraction, each label of at least two patients is in both sets.

    Raises:
        InputError: the fraction is out of range, or some rows have a split and others have none.
    """
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction is {validation_fraction}; give a share from 0 to below 1, as 0.2")
    given = frame["split"] != ""
    if given.all():
        return frame.copy()
    if given.any():
        rows = ", ".join(str(row) for row in frame.index[~given][:5])
        raise InputError(
            f"column 'split' is filled in {given.sum()} rows and empty in {(~given).sum()} (rows {rows}, "
            "from 0 over all tables). Fill it for all rows of all tables, or for none"
        )
    validation = _validation_patients(frame, validation_fraction, seed)
    keys = zip(frame["site"], frame["patient_id"], strict=True)
    return frame.assign(split=["val" if key in validation else "train" for key in keys])


def _validation_patients(frame: pd.DataFrame, fraction: float, seed: int) -> set[Patient]:
    """Chooses, per label, shuffled patients until the number of images is as near to the fraction as possible."""
    generator = np.random.default_rng(seed)
    patients = frame.groupby(["site", "patient_id"], sort=True)["label"].agg([_main_label, "size"])
    chosen: set[Patient] = set()
    for label, members in patients.groupby("_main_label", sort=True):
        shuffled = members.iloc[generator.permutation(len(members))]
        if fraction > 0 and len(shuffled) == 1:
            logger.warning("label %r has only one patient: it is in training and not in validation", label)
        if fraction == 0 or len(shuffled) == 1:
            continue
        reached = shuffled["size"].cumsum().to_numpy()
        wanted = fraction * reached[-1]
        count = int(np.abs(reached[:-1] - wanted).argmin()) + 1
        chosen.update((site, patient) for site, patient in shuffled.index[:count])
    return chosen


def _main_label(labels: "pd.Series[str]") -> str:
    """The most frequent label of a patient's images; the first in the alphabet among equals."""
    return str(labels.mode().iloc[0])
