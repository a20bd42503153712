"""Images in memory, without files: what a trainer's tests train on."""

from typing import Any

import torch
from torch.utils.data import Dataset


class Pictures(Dataset[dict[str, Any]]):
    """Images of 2 x 2 pixels, each of its own grey value 0, 1, 2, ...; classes 0 and 1, sites 0, 1 and 2 in turn."""

    """Images of 2 x 2 pixels of grey values 0, 1, 2, ...; classes 0 and 1 and sites 0, 1 and 2 in turn."""

    def __init__(self, count: int = 6) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        place, _ = index
        return {
            "image": torch.full((1, 2, 2), float(place)),
            "mask": torch.zeros(1, 2, 2),
            "has_mask": torch.tensor(False),
            "label": torch.tensor(place % 2),
            "site": torch.tensor(place % 3),
            "path": f"{place}.png",
        }
