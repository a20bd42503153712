"""Quality control of predicted masks without a reference: measurements, limits, quality flags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import LARGEST_AREA, LARGEST_BORDER, LOWEST_SYMMETRY, SMALLEST_AREA, border_share, lung_areas


@dataclass(frozen=True)
class QualityLimits:
    """Limits within which a predicted mask is accepted. All shares.

    Those of area, symmetry and border are by default the limits of given masks (`cxr_isnet.imaging.mask_shape`). In a
    cross-validation on the ieee8023 collection, all limits together flag 51 of 351 masks, 11 of the 25 of a Dice below
    0.88 among them.

    Attributes:
        smallest_area: Of the lungs in the image.
        largest_area: Of the lungs in the image.
        symmetry: Least area of the smaller lung by that of the larger one.
        border: Most of the image's border that is lung.
        fragments: Most of the raw mask that post-processing dropped.
        agreement: Least Dice of the lungs in a mirrored or shifted copy with those of the mean over all copies.
    """

    smallest_area: float = SMALLEST_AREA
    largest_area: float = LARGEST_AREA
    symmetry: float = LOWEST_SYMMETRY
    border: float = LARGEST_BORDER
    fragments: float = 0.1
    agreement: float = 0.94

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise InputError(f"limits.{name} is {value}; it is a share, from 0 to 1")
        if self.smallest_area >= self.largest_area:
            raise InputError(
                f"limits.smallest_area is {self.smallest_area}, limits.largest_area {self.largest_area}: "
                "give the lower one first"
            )


@dataclass(frozen=True)
class MaskQuality:
    """Measurements of one predicted mask.

    Attributes:
        area: Share of the image that is lung.
        lungs: Components that are large enough to be a lung.
        symmetry: Area of the smaller lung by that of the larger one; 0 of fewer than two.
        border: Share of the image's border that is lung.
        fragments: Share of the raw mask that post-processing dropped.
        agreement: Lowest Dice of one augmented copy's lungs with those of the mean; the mask's score.
    """

    area: float
    lungs: int
    symmetry: float
    border: float
    fragments: float
    agreement: float

    def quality_flags(self, limits: QualityLimits) -> list[str]:
        """What lies outside the limits, each with its measurement; empty for an accepted mask."""
        flags = []
        if not limits.smallest_area <= self.area <= limits.largest_area:
            flags.append(f"area {self.area:.2f}")
        if self.lungs != 2:
            flags.append(f"lungs {self.lungs}")
        elif self.symmetry < limits.symmetry:
            flags.append(f"symmetry {self.symmetry:.2f}")
        if self.border > limits.border:
            flags.append(f"border {self.border:.2f}")
        if self.fragments > limits.fragments:
            flags.append(f"fragments {self.fragments:.2f}")
        if self.agreement < limits.agreement:
            flags.append(f"agreement {self.agreement:.2f}")
        return flags


def measure_mask(mask: NDArray[np.uint8], *, fragments: float, agreement: float) -> MaskQuality:
    """Measures a post-processed mask.

    Args:
        mask: (rows, columns) uint8 of 0 and 1.
        fragments: As `postprocess` returns it.
        agreement: As `agreement` returns it.
    """
    lungs = lung_areas(mask)
    return MaskQuality(
        area=float(mask.mean()),
        lungs=len(lungs),
        symmetry=float(lungs[1] / lungs[0]) if len(lungs) > 1 else 0.0,
        border=border_share(mask),
        fragments=fragments,
        agreement=agreement,
    )
