"""Loaders whose batches depend on seed and epoch only, so that a resumed training sees the batches it would have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from cxr_isnet.data.datasets import SeededIndex
from cxr_isnet.errors import InputError

_SHUFFLE_STREAM = 0
_ITEM_STREAM = 1
MOST_WORKERS = 8
"""Loading processes of one training process: 8 of them make some thousand images a second of kept ones."""

_Integers = np.ndarray[Any, np.dtype[np.int64]]


class EpochSampler(Sampler[SeededIndex]):
    """Distributed sampler whose order and augmentation seeds are a function of seed and epoch.

    Yields index and seed. The seed belongs to the index, not to the process: processes of 1 / n of the batch size
    together see the batches that a single process sees. When shuffling, the processes get equally many images, the
    first ones again where needed; without shuffling every image is seen exactly once. With weights an image comes as
    often as its weight says, rounded up or down at random (systematic sampling), each time with another seed.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Set up.

        Args:
            length: number of items of the data set.
            shuffle: a new order each epoch; else the order of the data set.
            seed: of order and augmentation.
            rank: number of this process, from 0.
            world_size: number of processes.
            weights: of the items, >= 0: how often each is drawn when shuffling, in proportion; None for each once.

        Raises:
            ValueError: `rank` is not in 0 ... world_size - 1; there are weights of other items, or without shuffling.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in 0 .. {world_size - 1}")
        if weights is not None and not (shuffle and len(weights) == length and min(weights) >= 0 < sum(weights)):
            raise ValueError(f"{len(weights)} weights for {length} items: needed is one >= 0 for each, and shuffling")
        self.length = length
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float64)
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, >= 0, from 0 or 1 as the caller counts."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of items of this process."""
        return len(range(self.rank, self._total(), self.world_size))

    def __iter__(self) -> Iterator[SeededIndex]:
        """Indices and seeds of this process in this epoch."""
        indices, seeds = self._epoch()
        for index, seed in zip(indices[self.rank :: self.world_size], seeds[self.rank :: self.world_size], strict=True):
            yield int(index), int(seed)

    def _total(self) -> int:
        """Items of all processes."""
        return -(-self.length // self.world_size) * self.world_size if self.shuffle else self.length

    def _epoch(self) -> tuple[_Integers, _Integers]:
        """Indices and seeds of all processes in this epoch."""
        shuffling, total = self._generator(_SHUFFLE_STREAM), self._total()
        count = self.length if self.weights is None else total
        seeds = self._generator(_ITEM_STREAM).integers(2**32, size=count, dtype=np.uint32).astype(np.int64)
        if self.weights is not None:
            order = shuffling.permutation(self.length)
            edges = np.cumsum(self.weights[order])
            points = (np.arange(total) + shuffling.random()) * edges[-1] / total
            places = np.searchsorted(edges, points, side="right").clip(max=self.length - 1)
            return shuffling.permutation(order[places]), seeds
        order = np.arange(self.length)
        if self.shuffle:
            order = np.resize(shuffling.permutation(self.length), total)
        return order, seeds[order]

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, stream])


def make_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    workers: int = 0,
    pin_memory: bool = False,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    weights: Sequence[float] | None = None,
) -> DataLoader[Any]:
    """Loader of batches; call `set_epoch` before each epoch of a training.

    Args:
        dataset: as `make_dataset` returns it.
        batch_size: images of this process per batch.
        shuffle: a new order each epoch.
        seed: of order and augmentation, at least 0.
        workers: loading processes.
        pin_memory: puts batches where a GPU copies them from while it computes.
        drop_last: leave out the last batch when it is not full.
        rank: number of this process among the distributed ones.
        world_size: number of distributed processes.
        weights: as of `EpochSampler`.

    Returns:
        Batches as dictionaries: `image`, `mask` (B, 1, H, W) float32, `has_mask` (B,) bool, `label` and
        `site` (B,) int64, and lists of B strings `site_name`, `patient_id`, `path`.

    Raises:
        InputError: the data set is empty or has fewer images than one full batch with `drop_last`.
    """
    length = len(dataset)  # type: ignore[arg-type]
    sampler = EpochSampler(length, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size, weights=weights)
    if len(sampler) == 0 or (drop_last and len(sampler) < batch_size):
        raise InputError(
            f"{length} images on {world_size} processes do not fill one batch of {batch_size}. "
            "Make the batch smaller, or add images"
        )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        drop_last=drop_last,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def loading_processes(workers: int | None, device: torch.device) -> int:
    """Loading processes of a training.

    Args:
        workers: as asked for; None for none on a CPU, and on a GPU for one for each core, at most `MOST_WORKERS`.
        device: where the network computes.
    """
    if workers is not None:
        return workers
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // local)) if device.type == "cuda" else 0


def set_epoch(loader: DataLoader[Any], epoch: int) -> None:
    """Set the epoch of the loader's next iteration.

    Args:
        loader: as `make_loader` returns it.
        epoch: number of the epoch, at least 0.

    Raises:
        TypeError: the loader was not made by `make_loader`.
    """
    if not isinstance(loader.sampler, EpochSampler):
        raise TypeError(f"{type(loader.sampler).__name__} has no epochs; make the loader with make_loader")
    loader.sampler.set_epoch(epoch)
