"""One file to an array: DICOM, PNG and JPEG chest X-rays and lung masks, always rows x columns.

Reading order: `header` and `decoding` (with `codecs`), `grayscale` (stored values to grey values, with `lookup_table`
and `shutter`), `orientation`, `dicom` (all of them together), `images` (any file), `acceptance` and `rejection`
(which files are taken, by the words of `vocabulary` and `views`; `terms` may be quoted), `mask_shape` (what a mask
may look like), `png` (16-bit PNG), `raw_picture` (pictures of stored values), `untrusted`, `polarity` and
`frontal` (what the picture says).
"""

from typing import TYPE_CHECKING

from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig, Flag
from cxr_isnet.imaging.dicom import Radiograph, correct_polarity, is_dicom, read_radiograph, retain_device
from cxr_isnet.imaging.frontal import FRONTAL_ABOVE, frontal_features, frontal_score
from cxr_isnet.imaging.header import DICOM_ERRORS, LARGEST_PIXELS, Header, open_header
from cxr_isnet.imaging.images import PICTURE_FORMATS, image_turn, read_image, read_mask
from cxr_isnet.imaging.mask_shape import (
    LARGEST_AREA,
    LARGEST_BORDER,
    LOWEST_SYMMETRY,
    SMALLEST_AREA,
    border_share,
    lung_areas,
)
from cxr_isnet.imaging.orientation import Turn
from cxr_isnet.imaging.png import SOFTWARE, encode_png
from cxr_isnet.imaging.polarity import downsample
from cxr_isnet.imaging.provenance import Provenance
from cxr_isnet.imaging.raw_picture import read_json_header, read_raw_picture
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason
from cxr_isnet.imaging.terms import sex
from cxr_isnet.imaging.untrusted import UntrustedImage, read_untrusted
from cxr_isnet.imaging.views import View, find_view
from cxr_isnet.on_demand import names_on_demand

if TYPE_CHECKING:
    from cxr_isnet.imaging.monai_reader import CXRReader

__all__ = [
    "DICOM_ERRORS",
    "FRONTAL_ABOVE",
    "INTAKE_RULES",
    "LARGEST_AREA",
    "LARGEST_BORDER",
    "LARGEST_PIXELS",
    "LOWEST_SYMMETRY",
    "PICTURE_FORMATS",
    "SMALLEST_AREA",
    "SOFTWARE",
    "AcceptanceConfig",
    "CXRReader",
    "Flag",
    "Header",
    "Provenance",
    "Radiograph",
    "RejectedFile",
    "RejectionReason",
    "Turn",
    "UntrustedImage",
    "View",
    "border_share",
    "correct_polarity",
    "downsample",
    "encode_png",
    "find_view",
    "frontal_features",
    "frontal_score",
    "image_turn",
    "is_dicom",
    "lung_areas",
    "open_header",
    "read_image",
    "read_json_header",
    "read_mask",
    "read_radiograph",
    "read_raw_picture",
    "read_untrusted",
    "retain_device",
    "sex",
]

__getattr__ = names_on_demand(__name__, {"monai_reader": ("CXRReader",)})
"""It brings MONAI, without which intake's processes start in a second instead of ten."""
