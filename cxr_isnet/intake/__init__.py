"""File to array: chest X-rays and lung masks as rows x columns."""

from cxr_isnet.intake.images import read_image
from cxr_isnet.intake.masks import read_mask
from cxr_isnet.intake.reader import CXRReader

__all__ = ["CXRReader", "read_image", "read_mask"]
