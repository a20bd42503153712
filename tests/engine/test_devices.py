import pytest
import torch

from cxr_isnet.engine.devices import denormals_as_zero


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
