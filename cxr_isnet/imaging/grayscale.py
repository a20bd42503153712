"""DICOM's grayscale pipeline on a lookup table (LUT) of all pixel values, so that one look-up renders an image.

A pixel of up to 16 bits has at most 65536 values. A step is one function from LUT to LUT; `RENDERING_STEPS` is their
order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cxr_isnet.imaging.header import DICOM_ERRORS, Header
from cxr_isnet.imaging.lookup_table import LookupTable, read_lookup_table
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason

PERCENTILES = (0.5, 99.5)
_SAMPLE_SIDE = 256


@dataclass(frozen=True)
class GrayscaleLUT:
    """The rendered value of every stored bit pattern.

    Attributes:
        stored: (n,) int64, the stored value of each of the n = 2**BitsAllocated bit patterns.
        values: (n,) float64, its value after the steps so far; in [0, 1] from the window on.
        counts: (n,) int64, how often it occurs in a regular sample of the image, padding left out.
        padding: (n,) bool, whether it is pixel padding.
        value_range: lowest and highest value that the stored bits can become, before the window.
        clipped: share of the pixels that the window or VOI LUT shows as black or as white though they differ.
        applied: the steps applied, with their parameters.
        assumed: assumptions, where a tag is missing or makes no sense.
    """

    stored: NDArray[np.int64]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    padding: NDArray[np.bool_]
    value_range: tuple[float, float]
    clipped: float = 0.0
    applied: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


RenderingStep = Callable[[GrayscaleLUT, Header], GrayscaleLUT]
"""LUT before the step and header to the LUT after it."""


def render(pixels: NDArray[np.unsignedinteger], header: Header, hidden: int | None = None) -> GrayscaleLUT:
    """The LUT that renders an image.

    Args:
        pixels: (rows, columns) uint8 or uint16, bit patterns as stored.
        header: with the tags of the pipeline.
        hidden: bit pattern of the pixels that a display shutter hides, which are as dark as padding.

    Returns:
        The LUT after all steps: `values[pixels]` is the image in [0, 1]; bright is dense.

    Raises:
        RejectedFile: the modality LUT cannot be applied.

    Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric interpretation),
    C.7.5.1.1.2 (pixel padding).
    """
    lut = _stored_values(pixels, header, hidden)
    for step in RENDERING_STEPS:
        lut = step(lut, header)
    return lut


def subsample(pixels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """A regular sample of an image's pixels, 256 to 511 per side where there are as many: enough for statistics."""
    steps = [max(side // _SAMPLE_SIDE, 1) for side in pixels.shape]
    return pixels[:: steps[0], :: steps[1]]


def _stored_values(pixels: NDArray[np.unsignedinteger], header: Header, hidden: int | None) -> GrayscaleLUT:
    """The LUT of the stored values: the BitsStored bits that end at HighBit, in two's complement if signed."""
    bits = header.integer("BitsStored") or 8 * pixels.dtype.itemsize
    high = header.integer("HighBit")
    shift = max((bits - 1 if high is None else high) + 1 - bits, 0)
    stored, values, low, top = _stored_table(
        pixels.dtype.itemsize, bits, shift, header.integer("PixelRepresentation") == 1
    )
    counts = np.bincount(subsample(pixels).ravel(), minlength=len(stored))
    padded = np.zeros(len(stored), dtype=np.bool_)
    if hidden is not None:
        counts[hidden], padded[hidden] = 0, True
    stray = bool(counts[2 ** (bits + shift) :].any())
    return GrayscaleLUT(
        stored=stored,
        values=values,
        counts=counts,
        padding=padded,
        value_range=(low, top),
        assumed=("bits above HighBit are no part of the values",) if stray else (),
    )


@lru_cache(maxsize=8)
def _stored_table(
    size: int, bits: int, shift: int, signed: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64], float, float]:
    """Stored values of all bit patterns of some bytes, as integers and as numbers, and their range; not to be changed.

    The files of an archive have few formats.
    """
    stored = (np.arange(2 ** (8 * size), dtype=np.int64) >> shift) & (2**bits - 1)
    low, top = 0.0, 2.0**bits - 1
    if signed:
        stored = np.where(stored >= 2 ** (bits - 1), stored - 2**bits, stored)
        low, top = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    values = stored.astype(np.float64)
    stored.flags.writeable = values.flags.writeable = False
    return stored, values, low, top


def padding(lut: GrayscaleLUT, header: Header) -> GrayscaleLUT:
    """Marks the stored values of pixel padding, PixelPaddingValue to PixelPaddingRangeLimit.

    A value that the stored bits cannot have, as a negative one that is written as unsigned, is that of whole pixels.
    """
    first = header.integer("PixelPaddingValue")
    if first is None:
        return lut
    last = header.integer("PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    smallest, largest = lut.value_range
    compared, patterns = lut.stored, len(lut.stored)
    if low < smallest or high > largest:
        compared = np.arange(patterns)
        low, high = sorted((low % patterns, high % patterns))
    marked = lut.padding | ((compared >= low) & (compared <= high))
    if not lut.counts[~marked].any():
        return replace(lut, assumed=(*lut.assumed, f"pixel padding {low} to {high} ignored: it is the whole image"))
    return replace(
        lut,
        padding=marked,
        counts=np.where(marked, 0, lut.counts),
        applied=(*lut.applied, f"padding {low} to {high}"),
    )


def modality_lut(lut: GrayscaleLUT, header: Header) -> GrayscaleLUT:
    """Applies ModalityLUTSequence, else RescaleSlope and RescaleIntercept."""
    if header.has_items("ModalityLUTSequence"):
        try:
            table = _first_table(header, "ModalityLUTSequence", lut)
        except DICOM_ERRORS as error:
            raise RejectedFile(
                RejectionReason.BROKEN,
                f"ModalityLUTSequence (0028,3000) cannot be applied ({type(error).__name__}). Repair the header",
            ) from error
        top, assumed = _used_top(table, "modality LUT")
        lut = replace(lut, assumed=(*lut.assumed, *assumed))
        return replace(lut, values=table(lut.values), value_range=(0.0, top), applied=(*lut.applied, "modality LUT"))
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if not header.text("RescaleSlope") and not header.text("RescaleIntercept"):
        return lut
    if not slope:
        note = f"rescale slope 1 instead of {slope}"
        lut, slope = replace(lut, assumed=(*lut.assumed, note)), 1.0
    if intercept is None:
        lut, intercept = replace(lut, assumed=(*lut.assumed, "rescale intercept 0 instead of None")), 0.0
    low, top = sorted(end * slope + intercept for end in lut.value_range)
    note = f"rescale {slope:g} x + {intercept:g}"
    return replace(lut, values=lut.values * slope + intercept, value_range=(low, top), applied=(*lut.applied, note))


def _first_table(header: Header, keyword: str, lut: GrayscaleLUT) -> LookupTable:
    _, little_endian = header.dataset.original_encoding
    return read_lookup_table(
        next(header.items(keyword), Header(Dataset())), lut.value_range, little_endian is not False
    )


def _used_top(table: LookupTable, name: str) -> tuple[float, tuple[str, ...]]:
    """White of a table and what is assumed: its highest entry where that uses not even half of the bits.

    A table of 12 bits that claims 16 would come out nearly black.
    """
    highest = int(table.entries.max())
    if 0 < highest < table.top / 2:
        return highest, (f"{name} scaled by its highest entry {highest}, not by {table.bits} bits",)
    return table.top, ()


def voi_lut(lut: GrayscaleLUT, header: Header) -> GrayscaleLUT:
    """Applies VOILUTSequence, else the first window, else the full range; percentiles where a window is unusable."""
    if header.has_items("VOILUTSequence"):
        try:
            return _check_visible(_apply_voi_lut(lut, header))
        except (*DICOM_ERRORS, _UnusableWindowError) as error:
            lut = replace(
                lut, assumed=(*lut.assumed, f"VOI LUT ignored: it cannot be applied ({type(error).__name__})")
            )
    if not header.text("WindowCenter") and not header.text("WindowWidth"):
        low, top = lut.value_range
        return _rescale_linearly(lut, low, top, f"full range {low:g} to {top:g}")
    try:
        return _check_visible(_apply_window(lut, header))
    except _UnusableWindowError as error:
        low, top = percentiles(lut, *PERCENTILES)
        note = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} instead: {error}"
        lut = replace(lut, assumed=(*lut.assumed, note))
        return _rescale_linearly(lut, low, top, f"percentile window {low:g} to {top:g}")


class _UnusableWindowError(Exception):
    """A window or VOI LUT that would show nothing."""


_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def _apply_window(lut: GrayscaleLUT, header: Header) -> GrayscaleLUT:
    """Applies one of the three functions of C.11.2.1.2 and C.11.2.1.3, scaled to [0, 1]."""
    center, width = header.number("WindowCenter"), header.number("WindowWidth")
    function = header.text("VOILUTFunction").upper() or "LINEAR"
    if function not in _FUNCTIONS:  # not quoted: it may be any text
        raise _UnusableWindowError("a VOI LUT function that the standard does not know")
    smallest = 1.0 if function == "LINEAR" else 0.0
    if center is None or width is None or width <= smallest:
        raise _UnusableWindowError(f"{function} window of center {center} and width {width}")
    x = lut.values
    if function == "SIGMOID":
        shown = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (x - center) / width, -700.0, 700.0)))
    elif function == "LINEAR_EXACT":
        shown = np.clip((x - center) / width + 0.5, 0.0, 1.0)
    else:
        shown = np.clip((x - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)
    note = f"window {function} center {center:g} width {width:g}"
    return replace(lut, values=shown, applied=(*lut.applied, note))


def _apply_voi_lut(lut: GrayscaleLUT, header: Header) -> GrayscaleLUT:
    table = _first_table(header, "VOILUTSequence", lut)
    if table.entries.max() > table.top:
        raise _UnusableWindowError("entries beyond its bits")
    top, assumed = _used_top(table, "VOI LUT")
    return replace(
        lut,
        values=table(lut.values) / top,
        applied=(*lut.applied, f"VOI LUT of {table.bits} bits"),
        assumed=(*lut.assumed, *assumed),
    )


def _check_visible(lut: GrayscaleLUT) -> GrayscaleLUT:
    """Notes how much is clipped; raises `_UnusableWindowError` where all values of the image become one grey."""
    seen = lut.counts > 0
    shown, counts = lut.values[seen], lut.counts[seen]
    if len(shown) > 1 and shown.min() == shown.max():
        raise _UnusableWindowError("all values of the image lie outside it")
    lost = sum(
        counts[end].sum() - counts[end].max() for end in (shown < _CLIPPED, shown > 1 - _CLIPPED) if end.any()
    )  # the most frequent value at each end, black air as a rule, is not lost
    return replace(lut, clipped=float(lost / counts.sum()))


_CLIPPED = 1 / 512


def percentiles(lut: GrayscaleLUT, low: float, high: float) -> tuple[float, float]:
    """Two percentiles of the image's values, padding left out.

    Args:
        lut: counts at least one pixel.
        low: in percent, above 0.
        high: in percent, at most 100.

    Returns:
        The values at both.
    """
    seen = np.flatnonzero(lut.counts)
    order = seen[np.argsort(lut.values[seen], kind="stable")]
    reached = np.cumsum(lut.counts[order])
    first, last = lut.values[order[np.searchsorted(reached, np.array([low, high]) / 100 * reached[-1])]]
    return float(first), float(last)


def _rescale_linearly(lut: GrayscaleLUT, low: float, top: float, note: str) -> GrayscaleLUT:
    span = top - low or 1.0
    return replace(lut, values=np.clip((lut.values - low) / span, 0.0, 1.0), applied=(*lut.applied, note))


def photometric_interpretation(lut: GrayscaleLUT, header: Header) -> GrayscaleLUT:
    """Inverts where low values are bright: by MONOCHROME1 or PresentationLUTShape INVERSE, once if both say so.

    They belong together (PS3.3, C.8.11.3.1.2): one without the other is noted.
    """
    first, shape = (
        header.text("PhotometricInterpretation") == "MONOCHROME1",
        header.text("PresentationLUTShape").upper(),
    )
    if not first and shape != "INVERSE":
        return lut
    if not first or shape == "IDENTITY":
        photometric = "MONOCHROME1" if first else "MONOCHROME2"
        doubt = f"inverted, though PresentationLUTShape {shape} contradicts {photometric}"
        lut = replace(lut, assumed=(*lut.assumed, doubt))
    return invert(lut, f"inverted by {'MONOCHROME1' if first else 'PresentationLUTShape'}")


def invert(lut: GrayscaleLUT, note: str) -> GrayscaleLUT:
    """The LUT of the inverted image; padding stays dark."""
    values = np.where(lut.padding, 0.0, 1.0 - lut.values)
    return replace(lut, values=values, applied=(*lut.applied, note))


def dark_padding(lut: GrayscaleLUT, header: Header) -> GrayscaleLUT:
    """Makes padding as dark as air, whatever its stored value would have become."""
    return replace(lut, values=np.where(lut.padding, 0.0, lut.values))


RENDERING_STEPS: tuple[RenderingStep, ...] = (padding, modality_lut, voi_lut, photometric_interpretation, dark_padding)
