"""Controls of a training, and of all trainings of a comparison: they learn from the same patients."""

from __future__ import annotations

from collections.abc import Sequence

from cxr_isnet.data import make_store
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import TrainingTables
from cxr_isnet.inference import FittedControls, PreparedImages, conditions
from cxr_isnet.training.config import DataConfig
from cxr_isnet.training.partitions import Partitions, read_partitions


def fitted_controls(data: DataConfig, partitions: Partitions, images: PreparedImages | None = None) -> FittedControls:
    """Controls fitted to the training images, marked as in training.

    Args:
        data: Classes, image settings and planted marks.
        partitions: Rows by role.
        images: Whose features are known already; None for the images of the partitions' own store.
    """
    return FittedControls.on(
        images or PreparedImages(data.classes, data.image, partitions.store),
        partitions.training,
        conditions(data.mark)[0],
    )


def controls_of(data: DataConfig, seeds: Sequence[int]) -> dict[str, list[TrainingTables]]:
    """Control to its tables for every seed, of the images that trainings with these seeds are evaluated on.

    Every image is read once for each planted mark, whatever the number of controls and seeds. A control that sees too
    few images is left out.

    Raises:
        InputError: The manifests cannot be used, or name no external hospital.
    """
    if not data.external:
        raise InputError("data.external is empty: a control needs the manifest of at least one external site")
    store = make_store(data.image, cache=data.cache, folder=data.cache_folder)
    images = PreparedImages(data.classes, data.image, store)
    found: dict[str, list[TrainingTables]] = {}
    for seed in seeds:
        partitions = read_partitions(data, seed, store)
        assert partitions.external is not None
        fitted = fitted_controls(data, partitions, images)
        validation = fitted.tables(partitions.validation)
        external = {c.name: fitted.tables(partitions.external, c) for c in conditions(data.mark)}
        for name, table in validation.items():
            if name in external["clean"]:
                by_condition = {condition: tables[name] for condition, tables in external.items()}
                found.setdefault(name, []).append(TrainingTables({"clean": table}, by_condition))
    return found
