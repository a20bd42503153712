"""Where networks run."""

from __future__ import annotations

from enum import Enum

import torch

from cxr_isnet.choices import spell_by_value
from cxr_isnet.errors import InputError


class Device(Enum):
    """Where to compute. AUTO takes a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def found(self) -> torch.device:
        """The device as torch names it: `cuda` or `cpu`.

        Raises:
            InputError: If a GPU is asked for and there is none.
        """
        if self is Device.CUDA and not torch.cuda.is_available():
            raise InputError("device is 'cuda', but torch sees no GPU: use device=cpu or device=auto")
        return torch.device("cuda" if self is not Device.CPU and torch.cuda.is_available() else "cpu")


spell_by_value(Device)
