"""How much of the relevance lies inside the lungs, and how much would by its shape alone."""

from itertools import product

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float64]
Values = torch.Tensor | npt.NDArray[np.generic]

SHIFT = 8
"""Maps are shifted by this part of the side."""


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


def relevance_null(maps: Values, masks: Values, has_mask: Values) -> FloatArray:
    """Share inside the lungs that the same maps have elsewhere: mirrored, turned and shifted within the field of view.

    What is central, or has the size of lungs, keeps much of its share; what follows this patient's lungs does not.

    Args:
        maps: as of `relevance_in_lung`; of square images.
        masks: as there.
        has_mask: as there.

    Returns:
        (N,) means over the eight turns and mirror images by right angles, each where it is and shifted by an eighth of
        the side in eight directions, the map itself left out; relevance that a shift pushes out of the image does not
        count. NaN as there.
    """
    own = relevance_in_lung(maps, masks, has_mask)
    absolute = np.abs(_array(maps)).sum(axis=1)
    inside = _array(masks)[:, 0] > 0.5
    step = absolute.shape[1] // SHIFT
    shares = []
    for turns in range(4):
        for mirrored in (False, True):
            moved = np.rot90(absolute[..., ::-1] if mirrored else absolute, turns, axes=(1, 2))
            for down, right in product((-step, 0, step), repeat=2):
                if turns or mirrored or down or right:
                    shares.append(_shifted_share(moved, inside, down, right))
    defined = np.isfinite(own) & np.isfinite(shares).any(axis=0)
    found: FloatArray = np.full(len(own), np.nan)
    found[defined] = np.nanmean(np.array(shares)[:, defined], axis=0)
    return found


def _shifted_share(absolute: FloatArray, inside: npt.NDArray[np.bool_], down: int, right: int) -> FloatArray:
    """Share (N,) of the relevance, shifted by so many pixels, that is inside; NaN where none stays in the image."""
    rows, columns = absolute.shape[1:]
    kept = absolute[:, max(0, -down) : rows - max(0, down), max(0, -right) : columns - max(0, right)]
    there = inside[:, max(0, down) : rows - max(0, -down), max(0, right) : columns - max(0, -right)]
    total = kept.sum(axis=(1, 2))
    shares: FloatArray = np.full(len(kept), np.nan)
    np.divide((kept * there).sum(axis=(1, 2)), total, out=shares, where=np.isfinite(total) & (total > 0))
    return shares


def relevance_in_other_lungs(maps: Values, masks: Values, has_mask: Values, patients: Values) -> FloatArray:
    """Share of the relevance inside the lungs of other patients: what maps of lungs in general would have.

    Args:
        maps: as of `relevance_in_lung`.
        masks: as there.
        has_mask: as there.
        patients: (N,) number of the patient.

    Returns:
        (N,) means over the masks of all other patients; NaN as there, and where there is no other patient.
    """
    own = relevance_in_lung(maps, masks, has_mask)
    numbers, known = _array(patients), _array(has_mask) > 0.5
    absolute = np.abs(_array(maps)).sum(axis=1).reshape(len(own), -1)
    inside = (_array(masks) > 0.5).reshape(len(own), -1).astype(np.float64)
    found: FloatArray = np.full(len(own), np.nan)
    for place in np.flatnonzero(np.isfinite(own)):
        others = known & (numbers != numbers[place])
        if others.any():
            found[place] = (inside[others] @ absolute[place]).mean() / absolute[place].sum()
    return found


def _array(values: Values) -> FloatArray:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
