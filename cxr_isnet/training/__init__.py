"""Training: config in, judged and logged classifier out."""

from cxr_isnet.training.config import TrainConfig
from cxr_isnet.training.experiment import train

__all__ = ["TrainConfig", "train"]
