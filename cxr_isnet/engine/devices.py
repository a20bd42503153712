"""Where networks run, how the processor treats denormal numbers, and memory that nobody uses."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import torch

from cxr_isnet.config import spell_by_value
from cxr_isnet.errors import InputError


class Device(Enum):
    """Where to compute. AUTO takes a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def found(self) -> torch.device:
        """The device as torch names it: `cuda` or `cpu`.

        Raises:
            InputError: If a GPU is asked for and there is none.
        """
        if self is Device.CUDA and not torch.cuda.is_available():
            raise InputError("device is 'cuda', but torch sees no GPU: use device=cpu or device=auto")
        return torch.device("cuda" if self is not Device.CPU and torch.cuda.is_available() else "cpu")


spell_by_value(Device)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Counts denormal numbers as zero, where the CPU can, for a block; then all is as before.

    Relevance has many of them, and CPUs handle them slowly.
    """
    before = _flushing()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushing() -> bool:
    smallest = torch.tensor(torch.finfo(torch.float32).tiny)
    return float(smallest / 2) == 0.0


def return_free_memory() -> None:
    """Gives memory that is free inside the process back to the system, where the C library is glibc; else does nothing.

    The signals of relevance come in many sizes, and what glibc keeps between them grew, in a training of ISNet
    (`densenet_small`, 96 px, 16 images at a time), from 3 to 11 GB within eight epochs.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
