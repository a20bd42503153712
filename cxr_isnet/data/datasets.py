"""Data sets: rows of a manifest as items for a network."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pandas as pd
import torch
from monai.transforms.compose import Compose
from monai.transforms.transform import Transform
from torch.utils.data import Dataset

from cxr_isnet.data.augmentation import AugmentConfig, RandDevicesXrayd, RandExposureXrayd, RandPoseXrayd
from cxr_isnet.data.image_store import ImageStore
from cxr_isnet.data.planted_marks import MarkConfig, MarkMode, PlantMarkd
from cxr_isnet.data.preparation import ImageConfig
from cxr_isnet.data.transforms import EqualizeXrayd, LoadChestXrayd
from cxr_isnet.errors import InputError

Item = dict[Hashable, Any]
SeededIndex = tuple[int, int]
"""Index in the data set, and the seed of the random transforms."""


def make_transform(
    image: ImageConfig,
    *,
    augment: AugmentConfig | None = None,
    mark: MarkConfig | None = None,
    mode: MarkMode = MarkMode.NONE,
    class_count: int = 2,
    store: ImageStore | None = None,
) -> Compose:
    """Transform of an item: load, random pose, equalize, plant a mark, random tubes and text, random exposure.

    Without augmentation an image goes through the same as in `prepare_image`. A mark comes behind the equalization, so
    that it changes no grey value in the lungs, and stays in its corner whatever the pose.

    Args:
        image: the network's input.
        augment: ranges of the augmentation; None for none.
        mark: appearance of the planted mark; None for the default.
        mode: which mark an image gets; `NONE` plants none.
        class_count: number of classes, for the marks.
        store: where images are kept once they have been read; None reads them each time.

    Returns:
        A MONAI transform of dictionaries with paths under `image` and `mask`.

    Raises:
        InputError: marks for too many or too few classes.
    """
    steps: list[Transform] = [LoadChestXrayd(image, store)]
    if augment is not None:
        steps.append(RandPoseXrayd(augment))
    if image.equalize:
        steps.append(EqualizeXrayd())
    if mode is not MarkMode.NONE:
        steps.append(PlantMarkd(mark or MarkConfig(), mode, class_count))
    if augment is not None:
        if augment.devices:
            steps.append(RandDevicesXrayd(augment))
        steps.append(RandExposureXrayd(augment))
    return Compose(steps)


class CXRDataset(Dataset[Item]):
    """Map-style data set of a manifest: `dataset[i]` and `dataset[(i, seed)]` always give the same item.

    The augmentation depends on the seed that comes with the index and on nothing else: the sampler decides what is
    seen when, whichever worker loads it, however often the training was resumed.
    """

    def __init__(self, items: Sequence[Mapping[Hashable, Any]], transform: Compose) -> None:
        """Set up; reads nothing.

        Args:
            items: dictionaries with `image`, `mask` (paths), `label`, `site`, `site_name`, `patient_id`, `path`.
            transform: as `make_transform` returns it.
        """
        self.transform = transform
        self._items = list(items)
        self.labels = torch.tensor([int(item["label"]) for item in items])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int | SeededIndex) -> Item:
        """One item.

        Args:
            index: position in the data set, or position and seed of the augmentation (0 when not given).

        Returns:
            `image`, `mask` (1, size, size) float32, `has_mask` () bool, `label` and `site` () int64, and the strings
            `site_name`, `patient_id` and `path`.

        Raises:
            InputError: a file cannot be used.
        """
        position, seed = index if isinstance(index, tuple) else (index, 0)
        self.transform.set_random_state(seed=seed)
        with _unwrap_input_error():
            return dict(cast(Item, self.transform(self._items[position])))


def make_dataset(
    frame: pd.DataFrame,
    classes: Sequence[str],
    image: ImageConfig,
    *,
    augment: AugmentConfig | None = None,
    mark: MarkConfig | None = None,
    mode: MarkMode = MarkMode.NONE,
    store: ImageStore | None = None,
    labelled: bool = True,
    sites: Sequence[str] | None = None,
) -> CXRDataset:
    """Data set of a manifest's rows.

    Args:
        frame: as `cxr_isnet.manifests.read_manifest` returns it.
        classes: names of the classes; a label is the index in it.
        image: the network's input.
        augment: ranges of the augmentation; None for none.
        mark: appearance of the planted mark; None for the default.
        mode: which mark an image gets; `NONE` plants none.
        store: where images are kept once they have been read; None reads them each time.
        labelled: require that every label is one of the classes; else another label has index -1.
        sites: names of the hospitals; a site is the index in it, and -1 where it is none of them. None takes those of
            the rows, in order.

    Raises:
        InputError: no rows, or a label that is none of the classes.
    """
    if frame.empty:
        raise InputError("no images are left for this data set. Check column 'split' of the manifest")
    unknown = sorted(set(frame["label"]) - set(classes))
    if unknown and labelled:
        raise InputError(
            f"column 'label' holds {', '.join(map(repr, unknown))}, not a class ({', '.join(classes)}). "
            "Add it to the classes, or drop the rows"
        )
    transform = make_transform(image, augment=augment, mark=mark, mode=mode, class_count=len(classes), store=store)
    return CXRDataset(_items(frame, classes, site_names(frame) if sites is None else sites), transform)


def site_names(frame: pd.DataFrame) -> list[str]:
    """The hospitals of a manifest's rows, in the order of their names."""
    return sorted({str(site) for site in frame["site"]})


def _items(frame: pd.DataFrame, classes: Sequence[str], sites: Sequence[str]) -> list[Item]:
    indices = {name: index for index, name in enumerate(classes)}
    site_indices = {name: index for index, name in enumerate(sites)}
    return [
        {
            "image": str(row["image"]),
            "mask": str(row["mask"]),
            "label": torch.tensor(indices.get(row["label"], -1)),
            "site": torch.tensor(site_indices.get(str(row["site"]), -1)),
            "site_name": str(row["site"]),
            "patient_id": str(row["patient_id"]),
            "path": str(row["image"]),
        }
        for row in frame.to_dict("records")
    ]


@contextmanager
def _unwrap_input_error() -> Iterator[None]:
    """Raise the `InputError` of a transform instead of the RuntimeError that MONAI wraps around it."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
