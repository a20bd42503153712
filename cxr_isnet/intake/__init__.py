"""File to array: chest X-rays and lung masks as rows x columns; a hospital's folder to a manifest."""

from typing import TYPE_CHECKING

from cxr_isnet.intake.images import read_image
from cxr_isnet.intake.masks import read_mask

if TYPE_CHECKING:
    from cxr_isnet.intake.reader import CXRReader

__all__ = ["CXRReader", "read_image", "read_mask"]


def __getattr__(name: str) -> object:
    """`CXRReader` on demand: it brings MONAI, without which intake's processes start in a second instead of ten."""
    if name == "CXRReader":
        from cxr_isnet.intake.reader import CXRReader

        return CXRReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
