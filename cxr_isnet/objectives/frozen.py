"""Predictors with a part that is not trained."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import nn


class PartlyFrozen(nn.Module):
    """A predictor of which one part is never trained: it stays in evaluation mode, and no gradient reaches its weights.

    Attributes:
        frozen: Name of that part's module, and of the option that says where a training takes its weights from.
    """

    frozen: ClassVar[str]

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.add_module(self.frozen, part.requires_grad_(False).eval())

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.get_submodule(self.frozen).eval()
        return self
