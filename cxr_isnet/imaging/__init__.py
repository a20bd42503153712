"""One file to an array: DICOM, PNG and JPEG chest X-rays and lung masks, always rows x columns."""

from typing import TYPE_CHECKING

from cxr_isnet.imaging.images import read_image, read_mask

if TYPE_CHECKING:
    from cxr_isnet.imaging.monai_reader import CXRReader

__all__ = ["CXRReader", "read_image", "read_mask"]


def __getattr__(name: str) -> object:
    """`CXRReader` on demand: it brings MONAI, without which intake's processes start in a second instead of ten."""
    if name == "CXRReader":
        from cxr_isnet.imaging.monai_reader import CXRReader

        return CXRReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
