"""Stores of resized images and lung masks: every file is read once, by whatever asks for it first.

What is kept comes before all random changes, equalization and planted marks, so that training, validation,
controls and the evaluation share it: the grey values as float32, exactly as read, and the mask in bits, 4.1 bytes a
pixel. Own code in place of MONAI's `CacheDataset`, which serves one data set and keeps the mask as float32 too, and of
its `PersistentDataset`, which is keyed by paths, so that it serves the old image of a file that was replaced, and reads
pickles.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import tempfile
import time
import zlib
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cxr_isnet.imaging
from cxr_isnet.data import pairs, preparation
from cxr_isnet.data.pairs import ResizedPair, read_resized
from cxr_isnet.data.preparation import ImageConfig
from cxr_isnet.files import unwritable

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.5
"""Largest share of the machine's memory that the stores of all processes of a training take."""
ABANDONED_S = 3600.0
"""Age of an unfinished file from which no process is writing it any more."""
_DECODERS = ("imagecodecs", "numpy", "pillow", "pydicom", "pylibjpeg-openjpeg", "python-gdcm", "torch")
_CHECKSUM_BYTES = 4


class ImageStore(ABC):
    """Gives the resized image and mask of two paths, and keeps them."""

    def __init__(self, config: ImageConfig) -> None:
        """Set up, empty or with what a folder holds.

        Args:
            config: the network's input; of it the size alone counts, as equalization comes later.
        """
        self.config = config

    def pair(self, image: str, mask: str) -> ResizedPair:
        """The image and, unless its path is "", its mask; not to be changed in place.

        Args:
            image: path of an X-ray.
            mask: path of its lung mask, or "".

        Raises:
            InputError: a file cannot be read, or the mask does not fit; or the folder cannot be written to.
        """
        kept = self._get(image, mask)
        if kept is None:
            kept = _packed(read_resized(image, mask, self.config))
            self._put(image, mask, kept)
        return _unpacked(kept, self.config.size)

    @abstractmethod
    def _get(self, image: str, mask: str) -> Packed | None:
        """What is kept; None where nothing is."""

    @abstractmethod
    def _put(self, image: str, mask: str, packed: Packed) -> None:
        """Keeps it."""


Packed = NDArray[np.uint8]
"""(bytes,): an image as float32, row by row, and behind it its mask, if it has one, in bits."""


class MemoryStore(ImageStore):
    """A store in this process's memory, up to half of the machine's; what does not fit is read anew each time."""

    def __init__(self, config: ImageConfig) -> None:
        """Set up, empty."""
        super().__init__(config)
        self._kept: dict[tuple[str, str], Packed] = {}
        self._free = MEMORY_SHARE * _memory() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def _get(self, image: str, mask: str) -> Packed | None:
        return self._kept.get((image, mask))

    def _put(self, image: str, mask: str, packed: Packed) -> None:
        if self._free >= packed.nbytes:
            self._kept[image, mask] = packed
            self._free -= packed.nbytes
        elif self._free > 0:
            self._free = 0
            logger.warning(
                "memory: %d images are kept, which takes half of it; further ones are read anew each time. Name a "
                "folder for them (data.cache_folder)",
                len(self._kept),
            )


class FolderStore(ImageStore):
    """A store in a folder, for all processes that name it, one behind the other or at the same time.

    An image has a file, named after the content of image and mask, the size, and the code that decodes: a file that was
    replaced, another size and another version of cxr-isnet or of a decoder get files of their own. It begins with a
    checksum and appears when it is whole; one that is damaged all the same is written anew.
    """

    def __init__(self, config: ImageConfig, folder: str | Path) -> None:
        """Set up; removes what processes that were killed left unfinished.

        Args:
            config: the network's input.
            folder: made when missing.

        Raises:
            InputError: the folder cannot be written to.
        """
        super().__init__(config)
        self._folder = Path(folder)
        self._unfinished = self._folder / "unfinished"
        self._files: dict[tuple[str, str], Path] = {}
        try:
            self._unfinished.mkdir(parents=True, exist_ok=True)
            for path in self._unfinished.iterdir():
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self._folder, error) from error

    def _get(self, image: str, mask: str) -> Packed | None:
        try:
            content = np.fromfile(self._file(image, mask), np.uint8)
        except OSError:  # not kept; or the X-ray is missing, which reading it will say better
            return None
        checksum, packed = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        sound = packed.nbytes == _bytes(self.config.size, masked=mask != "") and checksum.tobytes() == _checksum(packed)
        return packed if sound else None

    def _put(self, image: str, mask: str, packed: Packed) -> None:
        path = self._file(image, mask)
        try:
            path.parent.mkdir(exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=self._unfinished)
            try:
                with open(handle, "wb") as stream:
                    stream.write(_checksum(packed))
                    stream.write(packed.data)
                os.replace(partial, path)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise unwritable(self._folder, error) from error

    def _file(self, image: str, mask: str) -> Path:
        """Where a pair is kept. The content is read once, so that one process sees one image under one path."""
        known = self._files.get((image, mask))
        if known is None:
            parts = [_digest(path) if path else "" for path in (image, mask)]
            key = f"{_decoding()} {self.config.size} {' '.join(parts)}"
            name = hashlib.sha256(key.encode()).hexdigest()
            known = self._files[image, mask] = self._folder / name[:2] / name[2:]
        return known


def make_store(config: ImageConfig, *, cache: bool = True, folder: str | None = None) -> ImageStore | None:
    """The store that settings ask for: in a folder where one is named, else in memory; None without a cache."""
    if not cache:
        return None
    return MemoryStore(config) if folder is None else FolderStore(config, folder)


def _packed(pair: ResizedPair) -> Packed:
    image = pair.image.numpy().reshape(-1).view(np.uint8)
    return image if pair.mask is None else np.concatenate((image, np.packbits(pair.mask.numpy() > 0)))


def _unpacked(packed: Packed, size: int) -> ResizedPair:
    pixels = size * size
    image = torch.from_numpy(packed[: 4 * pixels].view(np.float32).reshape(1, size, size))
    bits = packed[4 * pixels :]
    if not len(bits):
        return ResizedPair(image, None)
    mask: Tensor = torch.from_numpy(np.unpackbits(bits, count=pixels).reshape(1, size, size)).float()
    return ResizedPair(image, mask)


def _bytes(size: int, *, masked: bool) -> int:
    return 4 * size * size + (-(-size * size // 8) if masked else 0)


def _checksum(packed: Packed) -> bytes:
    return zlib.crc32(packed.data).to_bytes(_CHECKSUM_BYTES, "little")


def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _decoding() -> str:
    """Digest of all code between a file and its resized image."""
    found = hashlib.sha256()
    imaging = sorted(Path(cxr_isnet.imaging.__file__).parent.rglob("*.py"))
    for module in (*imaging, Path(pairs.__file__), Path(preparation.__file__)):
        found.update(module.read_bytes())
    for package in _DECODERS:
        try:
            found.update(f"{package} {importlib.metadata.version(package)}".encode())
        except importlib.metadata.PackageNotFoundError:
            found.update(package.encode())
    return found.hexdigest()


def _memory() -> int:
    """Bytes of memory of the machine, or of the container that this process runs in."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**34
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.strip().isdigit() else memory
