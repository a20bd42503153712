"""Small networks, one for each way that layers meet, and the oracle's hand-written account of each."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .oracle import Oracle, Value

N = TypeVar("N", bound=nn.Module)


def randomise(network: N) -> N:
    """Batch norms with statistics, shifts and factors of both signs, in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.1, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.bias, 0.2, 0.3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            with torch.no_grad():
                module.weight[1::3] *= -1
    return network.eval()


def without_biases(network: N) -> N:
    """Nothing in the network absorbs relevance."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.running_mean)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
    return network


def frozen_at(network: N, images: Tensor) -> N:
    """A copy in evaluation mode whose running statistics are those that `images` have in training mode."""
    copied = copy.deepcopy(network).train()
    counts: dict[nn.BatchNorm2d, int] = {}
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.register_forward_hook(lambda norm, x, y: counts.update({norm: x[0].numel() // x[0].shape[1]}))
    copied(images)
    for norm, n in counts.items():  # torch keeps the unbiased variance and normalises with the biased one
        norm.running_var *= (n - 1) / n
    return copied.eval()


class ConvNet(nn.Sequential):
    """Stem with batch norm, then a convolution with a bias."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__(
            nn.Conv2d(2, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 3, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(3, classes),
        )

    def account(self, oracle: Oracle) -> Value:
        x = oracle.relu(oracle.weighted(oracle.image, self[0], self[1]))
        x = oracle.relu(oracle.weighted(oracle.max_pool(x, 2, 2, 0), self[4]))
        return oracle.weighted(oracle.adaptive_average_pool(x, (1, 1)), self[8])


class ResidualNet(nn.Module):
    """Overlapping max pool, a sum with the identity and a sum with a strided projection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv1, self.norm1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv3, self.norm3 = nn.Conv2d(4, 6, 3, 2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.down, self.norm_down = nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.norm0(self.conv0(x))))
        branch = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        branch += x
        x = self.act(branch)
        x = self.act(self.norm3(self.conv3(x)) + self.norm_down(self.down(x)))
        return self.head(x.mean((2, 3)))

    def account(self, oracle: Oracle) -> Value:
        x = oracle.max_pool(oracle.relu(oracle.weighted(oracle.image, self.conv0, self.norm0)), 3, 2, 1)
        branch = oracle.weighted(oracle.relu(oracle.weighted(x, self.conv1, self.norm1)), self.conv2, self.norm2)
        x = oracle.relu(oracle.add(branch, x))
        x = oracle.add(oracle.weighted(x, self.conv3, self.norm3), oracle.weighted(x, self.down, self.norm_down))
        return oracle.weighted(oracle.adaptive_average_pool(oracle.relu(x), (1, 1)), self.head)


class DenseNet(nn.Module):
    """Concatenations read by batch norm, ReLU and convolution, an average pool, dropout before the head."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.pool0 = nn.MaxPool2d(3, 2, 1)
        self.norm1, self.conv1 = nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(5), nn.Conv2d(5, 2, 3, padding=1, bias=False)
        self.norm3, self.conv3 = nn.BatchNorm2d(7), nn.Conv2d(7, 4, 1, bias=False)
        self.pool3 = nn.AvgPool2d(2)
        self.norm4 = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool0(F.relu(self.norm0(self.conv0(x))))
        x = torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)
        x = torch.cat([x, self.conv2(F.relu(self.norm2(x)))], dim=1)
        x = self.pool3(self.conv3(F.relu(self.norm3(x))))
        x = F.adaptive_avg_pool2d(F.relu(self.norm4(x)), 1)
        return self.head(self.dropout(torch.flatten(x, 1)))

    def account(self, oracle: Oracle) -> Value:
        x = oracle.max_pool(oracle.relu(oracle.weighted(oracle.image, self.conv0, self.norm0)), 3, 2, 1)
        x = oracle.concatenate(x, oracle.weighted(oracle.relu(oracle.batch_norm(x, self.norm1)), self.conv1))
        x = oracle.concatenate(x, oracle.weighted(oracle.relu(oracle.batch_norm(x, self.norm2)), self.conv2))
        x = oracle.weighted(oracle.relu(oracle.batch_norm(x, self.norm3)), self.conv3)
        x = oracle.average_pool(x, 2, 2, 0)
        x = oracle.adaptive_average_pool(oracle.relu(oracle.batch_norm(x, self.norm4)), (1, 1))
        return oracle.weighted(x, self.head)


class VariedConvNet(nn.Module):
    """Strided, dilated and grouped convolutions, padded average pool, adaptive pool to a size that does not divide."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(2, 4, (3, 4), stride=(1, 2), padding=(1, 2))
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.dilated = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.uneven = nn.Conv2d(4, 3, 3, stride=2)
        self.head = nn.Linear(3 * 3 * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.strided(x).relu()
        x = torch.relu(self.norm(self.grouped(x)))
        x = F.avg_pool2d(self.dilated(x), 3, 1, 1)
        x = F.relu(self.uneven(F.relu(x)))
        x = F.adaptive_avg_pool2d(x, (3, 2))
        return self.head(x.view(x.size(0), -1))

    def account(self, oracle: Oracle) -> Value:
        x = oracle.relu(oracle.weighted(oracle.image, self.strided))
        x = oracle.relu(oracle.weighted(x, self.grouped, self.norm))
        x = oracle.relu(oracle.average_pool(oracle.weighted(x, self.dilated), 3, 1, 1))
        x = oracle.relu(oracle.weighted(x, self.uneven))
        return oracle.weighted(oracle.adaptive_average_pool(x, (3, 2)), self.head)


class FunctionalNet(nn.Module):
    """VGG-like, written with functions and tensor methods."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(i, 4, 3, padding=1) for i in (2, 4, 4))
        self.hidden, self.head = nn.Linear(4 * 4 * 4, 5), nn.Linear(5 + 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x), inplace=True)
        x = F.max_pool2d(x, 2)
        y = self.conv2(x)
        y += x
        x = torch.relu(y)
        z = self.conv3(x).relu() + x
        flat = torch.flatten(F.adaptive_avg_pool2d(z, output_size=4), start_dim=1)
        hidden = F.relu(self.hidden(flat)).view(x.shape[0], 5)
        pooled = z.mean(3).mean(dim=2)
        return self.head(torch.concat((hidden, pooled.reshape(-1, 4)), dim=-1))


class UNetEncoder(nn.Module):
    """Pooled features of every depth are concatenated with the deeper ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.third = nn.Sequential(nn.Conv2d(10, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = F.max_pool2d(self.first(x), 2)
        second = torch.cat([first, self.second(first)], 1)
        third = self.third(F.avg_pool2d(second, 2))
        merged = torch.cat([F.max_pool2d(second, kernel_size=2), third], 1)
        return self.head(F.adaptive_avg_pool2d(merged, (1, 1)).flatten(1))
