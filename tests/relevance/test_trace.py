"""Networks as lists of steps, and the ones that cannot be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.relevance import EPSILON_TABLE, RelevanceError
from cxr_isnet.relevance.trace import Trace, trace_network

from .networks import ConvNet, DenseNet, ResidualNet


def trace(network: nn.Module) -> Trace:
    return trace_network(network, set(EPSILON_TABLE))


class Conv(nn.Module):
    """One convolution to build networks on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)
        self.offset = nn.Parameter(torch.zeros(1))


def test_steps_come_in_order_with_the_modules_own_names_and_modules() -> None:
    network = ConvNet()
    found = trace(network)
    assert [step.name for step in found.steps] == ["input", *"012345678"]
    assert [step.module for step in found.steps[1:]] == list(network)
    assert (found.image, found.output) == (0, 9)


def test_functions_become_modules_with_the_same_settings() -> None:
    class Functions(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(F.relu(self.conv(x), inplace=True), 3, stride=2, padding=1).flatten(1)

    relu, pool = trace(Functions()).steps[2:4]
    assert relu.operation is nn.ReLU
    assert isinstance(pool.module, nn.MaxPool2d)
    assert (pool.module.kernel_size, pool.module.stride, pool.module.padding) == (3, 2, 1)


def test_different_spellings_are_one_operation() -> None:
    class Sums(Conv):
        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y += self.conv(x)
            return torch.add(y.add(y), y + y).flatten(1)

    operations = [step.operation for step in trace(Sums()).steps]
    assert operations.count(torch.add) == 4


def test_only_a_batch_norm_that_alone_reads_a_convolution_is_one_map_with_it() -> None:
    found = trace(DenseNet())
    pairs = {(found.steps[a].name, found.steps[b].name) for a, b in found.batch_norm_of.items()}
    assert pairs == {("conv0", "norm0")}
    found = trace(ResidualNet())
    assert len(found.batch_norm_of) == 5


def test_a_module_called_twice_is_found_where_it_was_called_last() -> None:
    class Twice(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x)).flatten(1)

    assert trace(Twice()).find("conv") == 2


def test_a_layer_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(RelevanceError, match=r"no module 'encoder'.*it has: 0, 1, 2"):
        trace(ConvNet()).find("encoder")


def test_optional_and_unused_arguments_are_ignored() -> None:
    class Optional(Conv):
        def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
            return self.conv(x).flatten(1)

    assert len(trace(Optional()).steps) == 3


def test_a_branch_on_the_data_is_refused_with_the_remedy() -> None:
    class Branching(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).flatten(1) if x.sum() > 0 else x.flatten(1)

    with pytest.raises(RelevanceError, match=r"Branching cannot be traced.*must not branch on the data"):
        trace(Branching())


def test_two_inputs_are_refused() -> None:
    class Pair(Conv):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.conv(x + y).flatten(1)

    with pytest.raises(RelevanceError, match=r"Pair must take one image tensor; it takes 2"):
        trace(Pair())


def test_several_outputs_are_refused() -> None:
    class Outputs(Conv):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(x)
            return y.flatten(1), y

    with pytest.raises(RelevanceError, match="must return one tensor"):
        trace(Outputs())


def test_a_bare_parameter_is_refused_by_name() -> None:
    class Bare(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return (self.conv(x) + self.offset).flatten(1)

    with pytest.raises(RelevanceError, match="'offset' is a bare parameter"):
        trace(Bare())


def test_sizes_are_distinguished_from_tensors() -> None:
    class Shapes(Conv):
        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y.view(y.shape[0], y.size(1) * y.size(2), -1).flatten(1)

    found = trace(Shapes())
    assert {found.steps[i].name for i in found.sizes} == {"getattr", "getitem", "size", "mul"}
