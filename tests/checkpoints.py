"""What several tests of trainings use: a stand-in for a signal, and checkpoints compared tensor by tensor."""

from pathlib import Path
from typing import Any

import torch


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def weights(folder: str, file: str = "best.pt") -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, by their place in it."""
    found: dict[str, torch.Tensor] = {}

    def collect(node: Any, key: str) -> None:
        if isinstance(node, torch.Tensor):
            found[key] = node
        elif isinstance(node, dict):
            for name, value in node.items():
                collect(value, f"{key}.{name}")

    collect(torch.load(Path(folder) / file, weights_only=True), "")
    return found


def assert_same(first: Any, second: Any, where: str = "state") -> None:
    """Two nested states are equal bit for bit."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second or first != first, where
