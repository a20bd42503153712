"""Transforms of an item: its files read, its grey values equalized."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms.transform import Transform

from cxr_isnet.data.image_store import ImageStore
from cxr_isnet.data.pairs import read_resized
from cxr_isnet.data.preparation import ImageConfig, equalize


class LoadChestXrayd(Transform):
    """Load, check and resize the files of one item.

    Reads the paths under `image` and, unless it is missing or "", `mask`; replaces them with (1, size,
    size) float32 tensors and adds `has_mask`. An item without a mask gets zeros.
    """

    def __init__(self, config: ImageConfig, store: ImageStore | None = None) -> None:
        """Set up.

        Args:
            config: the network's input.
            store: keeps what has been read, and gives what others have; None reads the files each time.

        Raises:
            ValueError: the store has images of another size.
        """
        if store is not None and store.config.size != config.size:
            raise ValueError(f"a store of images of {store.config.size} pixels for a network of {config.size}")
        self.config = config
        self.store = store

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load one item.

        Args:
            data: `image` and, optional, `mask`: paths.

        Returns:
            A new item: `image`, `mask` (1, size, size) float32, `has_mask` () bool.

        Raises:
            InputError: a file cannot be read, or the mask does not fit.
        """
        image, mask = str(data["image"]), str(data.get("mask", ""))
        pair = read_resized(image, mask, self.config) if self.store is None else self.store.pair(image, mask)
        empty = torch.zeros(1, self.config.size, self.config.size)
        return {
            **data,
            "image": pair.image,
            "mask": empty if pair.mask is None else pair.mask,
            "has_mask": torch.tensor(pair.mask is not None),
        }


class EqualizeXrayd(Transform):
    """Histogram equalization of an item's image, the second half of `prepare_image`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one item; `image` (1, H, W) float32 in [0, 1] stays so."""
        return {**data, "image": equalize(data["image"])}
