"""One process or several started by torchrun: who this one is, and what must be alike in all."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cxr_isnet.engine.devices import Device
from cxr_isnet.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistributedContext:
    """This process among all. Rank 0 alone writes files and MLflow."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as it is to be called in training: with gradients averaged over the processes.

        Batch norm is not synchronised: relevance is propagated through the statistics of the process's own images.
        """
        if self.count == 1:
            return module
        if self.is_main and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()):
            _log.warning(
                "batch norm: each of the %d processes normalises its own share of a batch, and the running statistics "
                "of the first are kept. This is another training than one process with the same batch_size",
                self.count,
            )
        return DistributedDataParallel(module)

    def share_batch(self, batch_size: int) -> int:
        """Images per process; raises `InputError` if `batch_size` does not divide evenly."""
        if batch_size % self.count:
            raise InputError(f"batch_size is {batch_size}; it must be a multiple of the {self.count} processes")
        return batch_size // self.count

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Means over the processes, which all give the same names."""
        if self.count == 1:
            return dict(values)
        together = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(together)
        return dict(zip(values, (together / self.count).tolist(), strict=True))

    def synchronise_buffers(self, module: nn.Module) -> None:
        """Gives all processes rank 0's buffers (batch statistics), so that all validate the same network."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def distributed_context(device: Device) -> Iterator[DistributedContext]:
    """Joins the group that torchrun set up, if it did; leaves it at the end.

    Args:
        device: Where this process, or each of the group, computes.

    Raises:
        InputError: If a GPU is asked for and there is none.
    """
    own = device.found()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield DistributedContext(0, 1, own)
        return
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield DistributedContext(dist.get_rank(), dist.get_world_size(), own)
    finally:
        dist.destroy_process_group()
