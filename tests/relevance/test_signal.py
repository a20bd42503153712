"""The signal with its maps folded into the batch; the factor y / (y + epsilon) at a ReLU output."""

import pytest
import torch
from torch.testing import assert_close

from cxr_isnet.relevance.signal import epsilon_gate, per_channel, stabilised, times


def test_times_broadcasts_a_factor_over_the_maps_with_maps_outermost() -> None:
    signal, factor = torch.randn(6, 2), torch.randn(3, 2)
    assert_close(times(signal, factor), signal * factor.repeat(2, 1))


def test_per_channel_fits_vectors_and_maps() -> None:
    factor = torch.tensor([1.0, 2.0])
    assert per_channel(factor, torch.ones(3, 2)).shape == (1, 2)
    assert per_channel(factor, torch.ones(3, 2, 4, 4)).shape == (1, 2, 1, 1)


def test_zero_counts_as_positive() -> None:
    assert_close(stabilised(torch.tensor([-1.0, 0.0, 1.0]), 0.5), torch.tensor([-1.5, 0.5, 1.5]))


# ---- the gate at a ReLU


def test_the_gate_is_the_formula_for_every_map() -> None:
    signal, y = torch.randn(6, 4, 3, 3), torch.rand(2, 4, 3, 3)
    expected = signal.view(3, 2, 4, 3, 3) * (y / (y + 0.1))
    assert_close(epsilon_gate(signal, y, 0.1), expected.view_as(signal))


def test_nothing_passes_the_gate_of_a_silent_unit_even_at_epsilon_zero() -> None:
    y = torch.tensor([[0.0, 1e-300, 2.0]])
    signal = torch.ones(1, 3)
    assert epsilon_gate(signal, y, 0.0).tolist() == [[0.0, 1.0, 1.0]]
    assert epsilon_gate(signal, y, 0.5)[0, 0] == 0


@pytest.mark.parametrize("maps", [1, 3])
def test_first_and_second_derivatives_of_the_gate(maps: int) -> None:
    signal = torch.randn(maps * 2, 3, 2, requires_grad=True)
    y = (torch.rand(2, 3, 2) + 0.1).requires_grad_()

    def gate(signal: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return epsilon_gate(signal, y, 0.3)

    assert torch.autograd.gradcheck(gate, (signal, y))
    assert torch.autograd.gradgradcheck(gate, (signal, y))


def test_gradient_of_the_gate_is_finite_at_silent_units() -> None:
    signal, y = torch.ones(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    grads = torch.autograd.grad(epsilon_gate(signal, y, 1e-2).sum(), (signal, y))
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
def test_narrow_activations_are_gated_in_float32(dtype: torch.dtype, epsilon: float) -> None:
    gated = epsilon_gate(torch.randn(2, 3).to(dtype), torch.rand(2, 3).to(dtype), epsilon)
    assert gated.dtype == torch.float32
