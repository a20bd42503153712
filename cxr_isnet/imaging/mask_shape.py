"""Shape of a lung mask: its measurements, and the limits outside of which it hardly shows two lungs.

The limits hold for given masks, in the checks of a manifest, and for predicted ones, as defaults of the quality flags.
They lie just outside of what annotators draw: of 1,164 masks (566 of Shenzhen, 351 of the ieee8023 collection, 247 of
JSRT) nine are outside. The area is 0.084 to 0.592 of the image; three masks have three components; of those with two,
five have a smaller lung below 0.4 of the larger (0.10 to 0.39); one has more than a tenth of the border, 22 more touch
it. Montgomery, which only tests, was left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_AREA, LARGEST_AREA = 0.08, 0.65
"""Area of the lungs as a share of the image."""

SMALLEST_LUNG = 0.005
"""Area of a component that can be a lung, as a share of the image; the smallest drawn lung has 0.018."""

LOWEST_SYMMETRY = 0.4
"""Area of the smaller lung as a share of the larger one."""

LARGEST_BORDER = 0.1
"""Share of the image's border that is lung."""

Mask = NDArray[np.number[Any]]


def lung_areas(mask: Mask) -> NDArray[np.int64]:
    """Areas of the components (pixels that touch at a side) that can be a lung.

    Args:
        mask: (rows, columns) of 0 and 1.

    Returns:
        Pixels of each, largest first; empty of an empty mask.
    """
    from scipy import ndimage  # not at the top: a model in use does without scipy

    labels, _ = ndimage.label(mask)
    areas = np.bincount(labels.ravel())[1:]
    return np.sort(areas[areas >= SMALLEST_LUNG * mask.size])[::-1]


def border_share(mask: Mask) -> float:
    """Share of the pixels on the image's border that are lung.

    Args:
        mask: (rows, columns) of 0 and 1, two or more of each.
    """
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(border.mean())
