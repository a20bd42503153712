"""What a training step minimises, one file per family of methods.

A method is an objective, its default network, how it predicts and how it is explained. A new one is a file here and an
entry of `METHODS`; one of your own is a file anywhere that a config names by its import path.
"""

from cxr_isnet.objectives.method import Explain, Explanation, Method
from cxr_isnet.objectives.objective import Batch, Objective

__all__ = ["Batch", "Explain", "Explanation", "Method", "Objective"]
