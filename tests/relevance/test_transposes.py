"""Every linear operation carries relevance back by its transpose: alone, it gives its input times its Jacobian."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from cxr_isnet.relevance import LRP, EpsilonRules, RelevanceError


class Function(nn.Module):
    """A function of the image, as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def explain(network: nn.Module, images: Tensor) -> Tensor:
    return LRP(network, EpsilonRules(0.0), image_range=None)(images)[1].image


def assert_is_transpose(network: nn.Module, shape: tuple[int, ...] = (2, 4, 7, 6)) -> None:
    network, images = nn.Sequential(network, nn.Flatten()).eval(), torch.rand(shape)
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x).sum(0), images)  # (outputs, B, C, H, W)
    assert_close(explain(network, images).detach(), images[:, None] * jacobian.transpose(0, 1))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 3, 3, padding=1),
        nn.Conv2d(4, 3, 1, bias=False),
        nn.Conv2d(4, 3, 1, stride=2),
        nn.Conv2d(4, 3, 1, padding=1),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(4, 3, 3, stride=3),
        nn.Conv2d(4, 3, (2, 3), stride=(2, 1), padding=(0, 2)),
        nn.Conv2d(4, 3, 3, dilation=(2, 1), padding=2),
        nn.Conv2d(4, 4, 3, groups=4, stride=2),
        nn.Conv2d(4, 3, 3, padding="same"),
        nn.Conv2d(4, 4, (2, 3), padding="same", dilation=(1, 2), groups=2),
        nn.Conv2d(4, 3, 3, padding="valid"),
        nn.ConvTranspose2d(4, 3, 2, stride=2),
        nn.Upsample(size=(8, 9), mode="bilinear"),
        nn.Upsample(size=(9, 9)),
        nn.PixelShuffle(2),
        nn.ZeroPad2d((1, 0, 2, 1)),
        nn.AdaptiveMaxPool2d((2, 3)),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d((3, 2), stride=(1, 2), padding=1, count_include_pad=False),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveAvgPool2d((None, 2)),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 1, dilation=2),
        nn.MaxPool2d((2, 3), ceil_mode=True),
        nn.Identity(),
        nn.Dropout(0.5),
        nn.Dropout2d(0.5),
    ],
    ids=str,
)
def test_layers(layer: nn.Module) -> None:
    assert_is_transpose(nn.Sequential(layer.double(), nn.Flatten()).eval())


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x * 0.5 - 2.0 * x / 3, id="constant factors"),
        pytest.param(lambda x: 1 - x.neg(), id="subtraction"),
        pytest.param(lambda x: torch.arange(6.0) * x, id="a factor by column"),
        pytest.param(lambda x: x + torch.arange(6.0), id="a constant summand"),
        pytest.param(lambda x: x[:, 1:, ::2, 0].flatten(1), id="slices"),
        pytest.param(lambda x: x.squeeze(1).unsqueeze(0).squeeze(0), id="squeeze"),
        pytest.param(lambda x: torch.stack(x.unbind(1), 3), id="unbind and stack"),
        pytest.param(lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1), id="split"),
        pytest.param(lambda x: torch.cat(x.chunk(2, 3), 2), id="chunk"),
        pytest.param(lambda x: x.permute(2, 0, 3, 1).transpose(0, 1), id="permute"),
        pytest.param(lambda x: F.pad(x, (1, -1, 0, 2)), id="pad"),
        pytest.param(lambda x: x.roll((1, 2), (2, 3)).flip(3), id="roll and flip"),
        pytest.param(lambda x: x.sum((2, 3)) + x.amax((2, 3)) + x.flatten(2).max(2)[0], id="sum and maxima"),
        pytest.param(lambda x: F.avg_pool2d(x, x.size()[2:]), id="pool of the image's size"),
        pytest.param(lambda x: x.mean([2, 3], True), id="mean positional keepdim"),
        pytest.param(lambda x: torch.einsum("bchw,c->bhw", x, torch.arange(4.0)), id="einsum with a constant"),
        pytest.param(lambda x: x.flatten(2) @ torch.arange(84.0).reshape(42, 2), id="matrix product with a constant"),
        pytest.param(lambda x: torch.where(torch.arange(6) > 2, x, 0.0), id="where"),
        pytest.param(lambda x: x.masked_fill(torch.arange(6) > 2, 0.0), id="masked fill"),
        pytest.param(lambda x: x.mean((2, 3)), id="mean method"),
        pytest.param(lambda x: torch.mean(x, dim=[2, 3]), id="mean function"),
        pytest.param(lambda x: x.mean(-1).mean(2), id="mean twice"),
        pytest.param(lambda x: x.mean((-2, -1), keepdim=True).flatten(1), id="mean keepdim"),
        pytest.param(lambda x: x.mean(2, True).flatten(1), id="mean one by one"),
        pytest.param(lambda x: x.mean([2, 3]), id="mean list"),
        pytest.param(lambda x: torch.mean(x, (1,)).flatten(1), id="mean over channels"),
        pytest.param(lambda x: torch.cat((x, F.avg_pool2d(x, 3, 1, 1), x), dim=1).flatten(1), id="cat"),
        pytest.param(lambda x: torch.cat([x, x], -1).flatten(1), id="cat over columns"),
        pytest.param(lambda x: torch.concat([x, x], dim=2).flatten(1), id="concat over rows"),
        pytest.param(lambda x: (x + F.max_pool2d(x, 3, 1, 1)).flatten(1), id="add"),
        pytest.param(lambda x: torch.add(x, x).flatten(1), id="add function"),
        pytest.param(lambda x: x.add(x).flatten(1), id="add method"),
        pytest.param(lambda x: x.view(x.shape[0], -1), id="view shape"),
        pytest.param(lambda x: x.reshape((x.size(0), 4 * 7 * 6)), id="reshape tuple"),
        pytest.param(lambda x: x.view(x.size(0), x.size(1) * x.shape[2] * 6), id="size arithmetic"),
        pytest.param(lambda x: x.contiguous().view(-1, 4 * 7 * 6), id="contiguous"),
        pytest.param(lambda x: torch.flatten(x, 2).flatten(1), id="flatten"),
        pytest.param(lambda x: F.adaptive_avg_pool2d(x, (2, 2)).flatten(start_dim=1), id="adaptive pool"),
        pytest.param(lambda x: F.max_pool2d(x, kernel_size=2, stride=1).flatten(1), id="max pool"),
        pytest.param(lambda x: x + x.mean((2, 3), keepdim=True) + x[:, :1], id="sum of different shapes"),
        pytest.param(lambda x: torch.add(x, x.flip(2), alpha=2), id="sum with a factor"),
        pytest.param(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), id="unpool"),
        pytest.param(lambda x: x.flatten(2).median(2).values + x.flatten(2).kthvalue(3).values, id="median"),
        pytest.param(lambda x: torch.take_along_dim(x, x.argsort(2), 2), id="taken by its own order"),
        pytest.param(lambda x: torch.tensordot(x, torch.arange(12.0).view(4, 3), ([1], [0])), id="tensordot"),
        pytest.param(
            lambda x: torch.zeros(2, 9, 7, 6).index_add(1, torch.tensor([1, 1, 8, 0]), x), id="added by an index"
        ),
        pytest.param(lambda x: x * x.sign().expand_as(x), id="sign"),
        pytest.param(lambda x: (x > 0.5).type_as(x) * x, id="a mask of the image's type"),
        pytest.param(lambda x: torch.arange(6.0).expand_as(x) * x, id="a factor of the image's shape"),
    ],
)
def test_functions(function: Callable[[Tensor], Tensor]) -> None:
    assert_is_transpose(Function(function))


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), nn.Dropout2d(0.5)], ids=str)
def test_in_training_dropout_passes_what_it_passed(dropout: nn.Module) -> None:
    images = torch.rand(8, 9, 4, 4, dtype=torch.float64)
    network = nn.Sequential(dropout, nn.Flatten(), nn.Linear(144, 3, bias=False)).double().train()
    logits, relevance = LRP(network, EpsilonRules(0.0), image_range=None)(images)
    assert_close(relevance.image.sum((2, 3, 4)), logits)
    assert 0.3 < float((relevance.image == 0).double().mean()) < 0.7


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.cat([x, x]).flatten(1), "concatenates along the batch"),
        (lambda x: x.flatten(1) + x.mean(), "mean or sum over a whole batch"),
        (lambda x: F.conv2d(x, x.mean(0, keepdim=True)).flatten(1), "fixed weight. Put that part into a module"),
    ],
)
def test_what_has_no_relevance_is_refused_with_a_reason(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(RelevanceError, match=message):
        explain(Function(function), torch.rand(2, 1, 3, 3))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_padding_gives_relevance_to_the_pixels_that_it_repeats(mode: str) -> None:
    assert_is_transpose(nn.Conv2d(4, 3, 3, padding=1, padding_mode=mode))
