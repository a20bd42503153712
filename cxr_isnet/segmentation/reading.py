"""Image files in batches for the segmenter, with the sizes their masks must have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image


@dataclass(frozen=True)
class ReadXray:
    """One image file, read.

    Attributes:
        path: Of the file.
        image: (1, size, size) in [0, 1], prepared; zeros when the file could not be read.
        shape: Rows and columns of the file's image.
        problem: Why the file could not be read; "" when it could.
    """

    path: str
    image: Tensor
    shape: tuple[int, int]
    problem: str = ""


class XrayFiles(Dataset[ReadXray]):
    """Image files as `ReadXray`, in the order of their paths."""

    def __init__(self, paths: Sequence[str], config: ImageConfig) -> None:
        """Paths of the files; the network's input."""
        self._paths = list(paths)
        self._config = config

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> ReadXray:
        path = self._paths[index]
        try:
            pixels = read_image(path)
        except InputError as error:
            size = self._config.size
            return ReadXray(path, torch.zeros(1, size, size), (size, size), str(error))
        return ReadXray(path, prepare_image(pixels, self._config), (pixels.shape[0], pixels.shape[1]))


def read_batches(
    paths: Sequence[str], config: ImageConfig, *, batch_size: int, workers: int, description: str
) -> Iterator[list[ReadXray]]:
    """Reads files batch by batch, in order, with a progress bar.

    Args:
        paths: The files.
        config: The network's input.
        batch_size: Files at a time.
        workers: Reading processes; 0 reads in this one.
        description: Of the progress bar.
    """
    files = XrayFiles(paths, config)
    loader: DataLoader[ReadXray] = DataLoader(files, batch_size=batch_size, num_workers=workers, collate_fn=list)
    with tqdm(total=len(files), desc=description, unit="image", disable=None) as bar:
        for batch in loader:
            yield batch
            bar.update(len(batch))
