"""The factor y / (y + epsilon) at a ReLU output."""

import pytest
import torch
from torch.testing import assert_close

from cxr_isnet.relevance.gate import epsilon_gate


def test_is_the_formula_for_every_map() -> None:
    signal, y = torch.randn(6, 4, 3, 3), torch.rand(2, 4, 3, 3)
    expected = signal.view(3, 2, 4, 3, 3) * (y / (y + 0.1))
    assert_close(epsilon_gate(signal, y, 0.1), expected.view_as(signal))


def test_nothing_passes_a_silent_unit_even_at_epsilon_zero() -> None:
    y = torch.tensor([[0.0, 1e-300, 2.0]])
    signal = torch.ones(1, 3)
    assert epsilon_gate(signal, y, 0.0).tolist() == [[0.0, 1.0, 1.0]]
    assert epsilon_gate(signal, y, 0.5)[0, 0] == 0


@pytest.mark.parametrize("maps", [1, 3])
def test_first_and_second_derivatives(maps: int) -> None:
    signal = torch.randn(maps * 2, 3, 2, requires_grad=True)
    y = (torch.rand(2, 3, 2) + 0.1).requires_grad_()

    def gate(signal: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return epsilon_gate(signal, y, 0.3)

    assert torch.autograd.gradcheck(gate, (signal, y))
    assert torch.autograd.gradgradcheck(gate, (signal, y))


def test_gradient_is_finite_at_silent_units() -> None:
    signal, y = torch.ones(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    grads = torch.autograd.grad(epsilon_gate(signal, y, 1e-2).sum(), (signal, y))
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("epsilon", [0.0, 1e-2])
def test_narrow_activations_are_gated_in_float32(dtype: torch.dtype, epsilon: float) -> None:
    gated = epsilon_gate(torch.randn(2, 3).to(dtype), torch.rand(2, 3).to(dtype), epsilon)
    assert gated.dtype == torch.float32
