"""Prediction of lung masks: image files read in batches, segmented, post-processed, each with its mask quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image
from cxr_isnet.networks import LUNG_PROBABILITY
from cxr_isnet.segmentation.overlap import dice
from cxr_isnet.segmentation.quality import MaskQuality, measure_mask
from cxr_isnet.segmentation.segmenter import Segmenter

MOST_LUNGS = 2


@dataclass(frozen=True)
class PredictedMask:
    """The lungs of one image.

    Attributes:
        mask: (rows, columns) uint8 of 0 and 1, of the image's own size.
        quality: Measurements for the quality flags.
    """

    mask: NDArray[np.uint8]
    quality: MaskQuality


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


def predict_files(
    segmenter: Segmenter, paths: Sequence[str], *, batch_size: int, workers: int, description: str
) -> Iterator[tuple[ReadXray, PredictedMask | None]]:
    """Reads and segments image files in order, with a progress bar.

    Args:
        segmenter: The segmenter.
        paths: The files.
        batch_size: Files at a time.
        workers: Reading processes; 0 reads in this one.
        description: Of the progress bar.

    Yields:
        Each file with its mask; without one, and with the problem, where it could not be read.
    """
    batches = read_batches(paths, segmenter.image, batch_size=batch_size, workers=workers, description=description)
    for batch in batches:
        readable = [xray for xray in batch if not xray.problem]
        predicted: Iterator[PredictedMask] = iter(())
        if readable:
            images = torch.stack([xray.image for xray in readable])
            predicted = iter(predict_masks(segmenter, images, [xray.shape for xray in readable]))
        for xray in batch:
            yield xray, None if xray.problem else next(predicted)


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
    files = _XrayFiles(paths, config)
    loader: DataLoader[ReadXray] = DataLoader(files, batch_size=batch_size, num_workers=workers, collate_fn=list)
    with tqdm(total=len(files), desc=description, unit="image", disable=None) as bar:
        for batch in loader:
            yield batch
            bar.update(len(batch))


def find_lungs(segmenter: Segmenter, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The lungs of one image (rows, columns) in [0, 1], bright is dense: (rows, columns) uint8 of 0 and 1."""
    prepared = prepare_image(image, segmenter.image)[None]
    return predict_masks(segmenter, prepared, [(image.shape[0], image.shape[1])])[0].mask


def predict_masks(segmenter: Segmenter, images: Tensor, shapes: list[tuple[int, int]]) -> list[PredictedMask]:
    """Segments a batch: mean over the augmented copies, at each image's size, two largest components, holes filled.

    Args:
        segmenter: The segmenter.
        images: (B, 1, size, size) float32 in [0, 1], as `prepare_image` returns them.
        shapes: Rows and columns of each image before it was prepared.
    """
    masks = []
    for maps, shape in zip(segmenter.augmented_probabilities(images), shapes, strict=True):
        final = postprocess(resize_and_threshold(maps.mean(dim=0).numpy(), shape))
        quality = measure_mask(final.mask, fragments=final.fragments, agreement=agreement(maps))
        masks.append(PredictedMask(final.mask, quality))
    return masks


def agreement(maps: Tensor) -> float:
    """Lowest Dice of one copy's lungs with those of the mean over all augmented copies, each post-processed.

    Args:
        maps: (copies, size, size) float32 in [0, 1], of one image, as `augmented_probabilities` returns them.

    Returns:
        A share; 1 where no map holds lung.
    """
    mean, *single = (
        torch.from_numpy(postprocess(lungs.numpy() >= LUNG_PROBABILITY).mask) for lungs in (maps.mean(dim=0), *maps)
    )
    return float(dice(torch.stack(single), mean).min())


@dataclass(frozen=True)
class PostprocessedMask:
    """A mask of at most two components.

    Attributes:
        mask: (rows, columns) uint8 of 0 and 1: the two largest components, holes filled.
        fragments: Share of the raw mask that lay in other components and was dropped; 0 of an empty mask.
    """

    mask: NDArray[np.uint8]
    fragments: float


def postprocess(raw: NDArray[np.bool_]) -> PostprocessedMask:
    """Keeps the two largest components (pixels that touch at a side) and fills their holes.

    Args:
        raw: (rows, columns), True where the probability says lung.
    """
    labels, count = ndimage.label(raw)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = 1 + np.argsort(-sizes, kind="stable")[:MOST_LUNGS]
    kept = np.isin(labels, largest)
    total = int(sizes.sum())
    fragments = 1.0 - float(kept.sum()) / total if total else 0.0
    return PostprocessedMask(ndimage.binary_fill_holes(kept).astype(np.uint8), fragments)


def resize_and_threshold(probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a probability map, resized to its image, says lung.

    Args:
        probability: (size, size) in [0, 1], of the image squeezed to a square.
        shape: Rows and columns of the image.

    Returns:
        (rows, columns) bool.
    """
    resized = interpolate(torch.from_numpy(probability)[None, None], size=shape, mode="bilinear", antialias=True)
    return np.asarray(resized[0, 0].numpy() >= LUNG_PROBABILITY)


class _XrayFiles(Dataset[ReadXray]):
    """Image files as `ReadXray`, in the order of their paths."""

    def __init__(self, paths: Sequence[str], config: ImageConfig) -> None:
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
