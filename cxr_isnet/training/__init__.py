"""Training: config in, judged and logged classifier out."""

from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.experiment import train
from cxr_isnet.training.steps import DivergedError

__all__ = ["DivergedError", "TrainConfig", "train"]
