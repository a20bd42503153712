"""One file to an array: DICOM, PNG and JPEG chest X-rays and lung masks, always (rows, columns).

Reading order: `images` (what callers use), `dicom` (one DICOM radiograph), and its parts: `header`, `acceptance` with
`views` and `rejection`, `decoding` with `codecs`, `grayscale`, `polarity`, `provenance`; `png` writes.
"""

from typing import TYPE_CHECKING

from cxr_isnet.imaging.images import read_image, read_mask

if TYPE_CHECKING:
    from cxr_isnet.imaging.monai_reader import CXRReader

__all__ = ["CXRReader", "read_image", "read_mask"]


def __getattr__(name: str) -> object:
    """`CXRReader`, imported on first use: without MONAI, which it needs, intake starts in one second instead of ten."""
    if name == "CXRReader":
        from cxr_isnet.imaging.monai_reader import CXRReader

        return CXRReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
