"""The manifests' rows by role: training, in-domain validation, external hospitals."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cxr_isnet.data import ImageStore, check_files, make_store, read_pair
from cxr_isnet.errors import InputError, Problems
from cxr_isnet.manifests import read_manifests, split_by_patient
from cxr_isnet.objectives import Method
from cxr_isnet.training.config import DataConfig


@dataclass(frozen=True)
class Partitions:
    """The manifests' rows by role.

    Attributes:
        training: To train on.
        validation: Other patients of the same hospitals.
        external: Of hospitals that neither training nor any choice sees.
        store: Their images, each read once; None where images are read each time.
    """

    training: pd.DataFrame
    validation: pd.DataFrame
    external: pd.DataFrame | None
    store: ImageStore | None = None

    def check_files(self) -> None:
        """Reads every image and mask once, into the store.

        Raises:
            InputError: Some cannot be used; names them.
        """
        problems, read = Problems(), read_pair if self.store is None else self.store.pair
        for part in (self.training, self.validation, *([] if self.external is None else [self.external])):
            with problems.noted():
                check_files(part, read)
        problems.raise_all()


def read_partitions(config: DataConfig, seed: int, store: ImageStore | None = None) -> Partitions:
    """Reads and checks the manifests, and splits the training sites by patient; reads no image.

    Args:
        config: The manifests.
        seed: Of the split where the manifests do not say who is held out.
        store: Where images are kept; None makes the one that the config asks for.
    """
    problems, external = Problems(), None
    with problems.noted():
        frame = read_manifests(config.training, classes=config.classes)
    with problems.noted():
        external = read_manifests(config.external, classes=config.classes) if config.external else None
    problems.raise_all()
    parts = divided(frame, config, seed)
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
    store = store or make_store(config.image, cache=config.cache, folder=config.cache_folder)
    return Partitions(parts["train"], parts["val"], external, store)


@contextmanager
def shared_images(data: DataConfig, folder: Path) -> Iterator[DataConfig]:
    """Settings with which several trainings read every image once: they keep it in a folder, unless the settings say
    where, or not at all. The folder is removed when the block ends without an error: they all have been trained."""
    if data.cache_folder is not None or not data.cache:
        yield data
        return
    yield replace(data, cache_folder=str(folder))
    shutil.rmtree(folder, ignore_errors=True)


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


def check_masks(method: Method, training: pd.DataFrame, config: DataConfig) -> None:
    """Whether enough training images have a lung mask for a method that needs them.

    A hospital without masks adds classification loss only: its background stays free to tell the class, so such a
    training is no ISNet there, whatever it is called.

    Args:
        method: What is to be trained.
        training: Rows of the training images.
        config: Says how many are enough.

    Raises:
        InputError: Too few of a class of a hospital have one; names all such groups and what to do.
    """
    if not method.needs_masks:
        return
    masked = training["mask"] != ""
    groups = training.assign(masked=masked).groupby(["site", "label"])["masked"].agg(["sum", "size"]).reset_index()
    lacking = groups[(groups["sum"] < config.least_masked * groups["size"]) | (not masked.any())]
    if lacking.empty:
        return
    shares = "; ".join(f"{g.site}, {g.label}: {g.sum} of {g.size}" for g in lacking.itertuples())
    bare = int((training["site"].isin(lacking["site"]) & ~masked).sum())
    manifests = ", ".join(config.training)
    raise InputError(
        f"column 'mask' of {manifests}: method '{method.name}' needs lung masks of at least "
        f"{config.least_masked:.0%} of the training images of every class of every hospital (data.least_masked), and "
        f"{bare} images have none (masked are: {shares}). Predict them, `cxr-isnet segment predict --model "
        "lungs/best.pt --manifest MANIFEST --output FOLDER`, and name FOLDER/manifest.csv in data.training in place of "
        "MANIFEST; or leave out what has no mask (--data.masked_only true); or train method 'cross_entropy', which "
        "needs none"
    )
