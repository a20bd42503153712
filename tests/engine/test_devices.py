import ctypes
import os
from pathlib import Path

import pytest
import torch

from cxr_isnet.engine.devices import denormals_as_zero, return_free_memory


def denormal_is_zero() -> bool:
    return float(torch.tensor(torch.finfo(torch.float32).tiny) / 2) == 0.0


@pytest.fixture(autouse=True)
def restored():
    yield
    torch.set_flush_denormal(False)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this CPU cannot flush denormal numbers")
@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_zero_in_the_block_and_as_before_after_it(before):
    torch.set_flush_denormal(before)

    with denormals_as_zero():
        within = denormal_is_zero()

    assert within
    assert denormal_is_zero() is before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_memory_that_is_free_but_kept_is_given_back():
    def resident() -> int:
        return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])

    chunks = [bytes(65_000) for _ in range(4_000)]
    del chunks[:-1]  # what is left at the end keeps the C library from shrinking its heap
    kept = resident()
    return_free_memory()

    assert kept - resident() > 150e6
