"""Maps as a coloured, partly transparent layer over an X-ray: red speaks for a class, blue against it.

One scale serves all maps that are to be compared, so that equal colours are equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

SCALE_PERCENTILE = 99.5
FOR, AGAINST = (214, 26, 28), (33, 102, 172)
"""Red and blue of 0 to 255, told apart by those who do not see red and green as different."""
OPACITY = 0.8
"""Of the strongest relevance."""


def shared_scale(maps: Iterable[npt.NDArray[np.floating]]) -> float:
    """The 99.5th percentile of the absolute values of all maps, so that single pixels do not hide the rest; 0 where all
    maps are.

    Args:
        maps: Of any shapes.
    """
    strengths = [np.abs(np.asarray(values, dtype=np.float64)).ravel() for values in maps]
    every = np.concatenate(strengths) if strengths else np.zeros(1)
    return float(np.percentile(every, SCALE_PERCENTILE) or every.max())


def overlay(relevance: npt.NDArray[np.floating], scale: float, opacity: float = OPACITY) -> npt.NDArray[np.uint8]:
    """A map as a layer (H, W, 4), red, green, blue and opacity of 0 to 255.

    Args:
        relevance: (H, W), signed.
        scale: Absolute relevance of the strongest colour, as `shared_scale` gives it.
        opacity: Of that colour.
    """
    strength = np.clip(np.asarray(relevance, dtype=np.float64) / (scale or 1.0), -1, 1)
    layer = np.where(strength[..., None] > 0, FOR, AGAINST)
    return np.concatenate([layer, np.rint(255 * opacity * np.abs(strength))[..., None]], axis=-1).astype(np.uint8)


def blended(image: npt.NDArray[np.floating], layer: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The X-ray (H, W) in [0, 1] under a layer: (H, W, 3) of 0 to 255. Nothing is turned or mirrored."""
    cover: npt.NDArray[Any] = layer[..., 3:] / 255
    grey = 255 * np.clip(np.asarray(image, dtype=np.float64), 0, 1)[..., None]
    return np.asarray(np.rint(grey * (1 - cover) + layer[..., :3] * cover), dtype=np.uint8)
