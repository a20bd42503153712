"""How much of the relevance lies inside the lungs."""

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float64]
Values = torch.Tensor | npt.NDArray[np.generic]


def relevance_in_lung(maps: Values, masks: Values, has_mask: Values) -> FloatArray:
    """Share of the absolute relevance, summed over all maps of an image, that lies inside its lung mask.

    Args:
        maps: (N, K, H, W) signed relevance, K maps per image (channels of an image may be K too).
        masks: (N, 1, H, W), above 0.5 inside the lungs.
        has_mask: (N,) whether the image has a mask.

    Returns:
        (N,) float64 in [0, 1]; NaN without a mask, with relevance zero everywhere, or with a value that is
        not finite.

    Raises:
        ValueError: the shapes do not belong together.
    """
    relevance, inside, known = _array(maps), _array(masks) > 0.5, _array(has_mask) > 0.5
    if relevance.ndim != 4 or inside.shape != (len(relevance), 1, *relevance.shape[2:]):
        raise ValueError(f"maps {relevance.shape} and masks {inside.shape}: want (N, K, H, W) and (N, 1, H, W)")
    if known.shape != (len(relevance),):
        raise ValueError(f"has_mask {known.shape}: want ({len(relevance)},)")
    absolute = np.abs(relevance).sum(axis=1, keepdims=True)
    total = absolute.sum(axis=(1, 2, 3))
    within = np.where(inside, absolute, 0.0).sum(axis=(1, 2, 3))
    shares: FloatArray = np.full(len(relevance), np.nan)
    np.divide(within, total, out=shares, where=known & np.isfinite(total) & (total > 0))
    return shares


def _array(values: Values) -> FloatArray:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
