"""The manifests' rows by role: training, in-domain validation, external hospitals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_isnet.data import check_files
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifests, split_by_patient
from cxr_isnet.training.config import DataConfig


@dataclass(frozen=True)
class Partitions:
    """The manifests' rows by role."""

    training: pd.DataFrame
    validation: pd.DataFrame
    external: pd.DataFrame | None


def read_partitions(config: DataConfig, seed: int) -> Partitions:
    """Reads and checks the manifests and their files, and splits the training sites by patient."""
    frame = read_manifests(config.training, classes=config.classes)
    parts = divided(frame, config, seed)
    external = read_manifests(config.external, classes=config.classes) if config.external else None
    lacking = classes_lacking(parts, config.classes)
    if lacking:
        raise InputError(
            f"column 'label' of {', '.join(config.training)}: {lacking}. Add images of it, or take it out of "
            "data.classes"
        )
    if external is not None:
        shared = sorted(set(external["site"]) & {site for part in parts.values() for site in part["site"]})
        if shared:
            raise InputError(
                f"column 'site': {shared} is both in data.training and data.external; an external hospital must be "
                "unseen. Take its manifest out of one of them"
            )
        both = sorted(set(external["image"]) & set(frame["image"]))
        if both:
            raise InputError(
                f"column 'image': {both[0]} and {len(both) - 1} more stand both in data.training and data.external; an "
                "external image must be unseen. Take them out of one of them"
            )
    for part in (*parts.values(), *([] if external is None else [external])):
        check_files(part)
    return Partitions(parts["train"], parts["val"], external)


def divided(frame: pd.DataFrame, config: DataConfig, seed: int) -> dict[str, pd.DataFrame]:
    """The rows of `train` and of `val` that the hospitals to train on come to, by patient."""
    if config.masked_only:
        frame = frame[frame["mask"] != ""].reset_index(drop=True)
    frame = split_by_patient(frame, validation_fraction=config.validation_fraction, seed=seed)
    return {name: frame[frame["split"] == name].reset_index(drop=True) for name in ("train", "val")}


def classes_lacking(parts: Mapping[str, pd.DataFrame], classes: Sequence[str]) -> str:
    """Which classes the first part that lacks some has no image of, in words; "" if there are images of all."""
    for name, part in parts.items():
        absent = [c for c in classes if c not in set(part["label"])]
        if absent:
            return f"no image of class {', '.join(map(repr, absent))} in split '{name}' ({len(part)} images)"
    return ""
