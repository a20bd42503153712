"""Whether the record of a network's pass is a whole account of it: it must give the logits of other images."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from cxr_isnet.relevance.errors import OWN_MODULE, RelevanceError
from cxr_isnet.relevance.recorder import record
from cxr_isnet.relevance.trace import ForwardPass, find_logits

_SIZES = (64, 224, 32, 96, 128, 256, 48, 112, 160, 192, 299, 384, 512, *range(4, 32))  # the last for small examples
_IMAGES = 2  # more than one, for batch norms in training


def has_numbers(images: Tensor) -> bool:
    """Whether it is a tensor to calculate with, not one that torch.compile or a torch.func transform traces with, or
    that has a shape alone."""
    traced = isinstance(images, FakeTensor | FunctionalTensor) or images.is_meta
    return not traced and not torch._C._functorch.is_functorch_wrapped_tensor(images)


def verified(network: nn.Module, images: Tensor, whole: Collection[type], layers: Collection[str]) -> ForwardPass:
    """A pass recorded with names and found to be what the network does, bit by bit; it leaves the network as it is.

    Args:
        network: in the mode that is looked at.
        images: (B, C, H, W).
        whole: as for `record`.
        layers: likewise.

    Raises:
        RelevanceError: if the network is more than the torch functions that were seen.
    """
    images = images.detach()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        others = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)).to(images)
        with _aside(network, images) as run:
            try:
                found = record(network, images, whole, layers, named=True, run=run)
            except RelevanceError:
                raise
            except Exception as error:
                raise RelevanceError(
                    f"{type(network).__name__} cannot be followed by its torch functions: "
                    f"{type(error).__name__}: {error}"
                ) from error
        with _aside(network, images) as run:
            expected = find_logits(run(others), others.shape[0])
        if not torch.equal(expected.nan_to_num(), found.replayed(others)[found.output].nan_to_num()):
            with _aside(network, images) as run:
                place = _first_difference(found, record(network, others, whole, layers, run=run), others)
            raise RelevanceError(
                f"the network's logits of other images are not those of what it did to these{place}: a part of it does "
                "not go through torch functions (as a scripted or compiled module, or numpy), changes a tensor behind "
                f"them, or is a number read from the images. {OWN_MODULE}"
            )
    return found


def _first_difference(run: ForwardPass, other: ForwardPass, images: Tensor) -> str:
    """Where the steps of a pass, repeated for the images of another pass, first give something else than that one."""
    for i, (mine, value) in enumerate(zip(run.replayed(images), other.values, strict=False)):
        same = run.steps[i].operation == other.steps[i].operation and mine.shape == value.shape
        if not same or not torch.equal(mine.nan_to_num(), value.nan_to_num()):
            return f", from '{run.names[i][0]}' ({run.steps[i].operation}) on"
    return ""


def takes(network: nn.Module, images: Tensor) -> bool:
    """Whether the network runs on such images."""
    try:
        with torch.no_grad(), _aside(network, images) as run:
            run(images)
    except Exception:  # whatever a network raises for images that do not fit it
        return False
    return True


@contextmanager
def _aside(network: nn.Module, images: Tensor) -> Iterator[Callable[[Tensor], Any]]:
    """The network as a function, on copies of its buffers and with all random generators put back afterwards."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    state = random.getstate()
    devices = [images.device] if images.is_cuda else []
    fused = torch.backends.mha.get_fastpath_enabled()  # attention in one kernel, which rounds otherwise than its parts
    with torch.random.fork_rng(devices):
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            yield lambda x: torch.func.functional_call(network, buffers, (x,))
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            random.setstate(state)


def example_images(network: nn.Module) -> Iterator[Tensor]:
    """Random images (2, C, H, W) that the network may take: of its first convolution's channels, of usual sizes."""
    parameter = next((p for p in network.parameters() if p.is_floating_point()), None)
    dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
    device = torch.device("cpu") if parameter is None else parameter.device
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    channels = [first.in_channels] if first is not None else [1, 3]
    generator = torch.Generator().manual_seed(0)
    for size in _SIZES:
        for channel in channels:
            yield torch.rand(_IMAGES, channel, size, size, generator=generator).to(device, dtype)
