"""How a network is trained, whatever it sees: optimiser, schedule, precision, seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cxr_isnet.config import spell_by_value
from cxr_isnet.errors import InputError


class Precision(Enum):
    """Arithmetic of the network; losses, and the whole step of ISNet, are float32 or, where that is chosen, TF32.

    FP32: float32; on a GPU convolutions are in TF32, as torch has it.
    TF32: On a GPU matrix products are in TF32 too, with 10 bits after the point; on a CPU the same as FP32.
    BF16: The forward pass of what is no ISNet in bf16.
    """

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"


class Algorithm(Enum):
    """Optimiser: AdamW, on a GPU in one kernel (fused), or SGD with momentum 0.99 as in the study."""

    ADAMW = "adamw"
    SGD = "sgd"


spell_by_value(Precision, Algorithm)


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights move.

    Attributes:
        algorithm: Optimiser.
        learning_rate: Highest learning rate.
        weight_decay: Decoupled (AdamW) or L2 (SGD).
        momentum: Of SGD.
        clip: Largest norm of the gradient.
        warmup: Share of all steps over which the learning rate rises from 0; then it falls to 0 as a half cosine.
        average: Decay per step of a running average of the weights, which is then what is validated and kept; 0 for
            none.
    """

    algorithm: Algorithm = Algorithm.ADAMW
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.99
    clip: float = 1.0
    warmup: float = 0.1
    average: float = 0.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"optimizer.{name} is {getattr(self, name)}; it must be above 0")
        if self.weight_decay < 0:
            raise InputError(f"optimizer.weight_decay is {self.weight_decay}; it must be 0 or more")
        for name in ("momentum", "warmup", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"optimizer.{name} is {getattr(self, name)}; it must be from 0 to below 1")


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of a `Trainer`.

    Attributes:
        optimizer: Optimiser and schedule.
        epochs: Epochs in all, which the learning rate's schedule spans.
        seed: Of everything random.
        precision: Arithmetic of the network.
        compile: Compiles the objective's forward and backward pass as one graph (torch.compile), on a GPU into CUDA
            graphs.
    """

    optimizer: OptimizerConfig
    epochs: int
    seed: int
    precision: Precision = Precision.FP32
    compile: bool = False
