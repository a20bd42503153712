"""The grayscale pipeline of DICOM on a table of all possible pixel values, so that an image is rendered by one look-up.

A pixel of up to 16 bits has at most 65536 values. A step is one function from table to table; `STEPS` is their order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from cxr_isnet.imaging.header import DICOM_ERRORS, Header
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason

PERCENTILES = (0.5, 99.5)
_SAMPLED_SIDE = 256


@dataclass(frozen=True)
class GreyTable:
    """What every stored bit pattern becomes.

    Attributes:
        stored: (n,) int64, the stored value of each of the n = 2**BitsAllocated bit patterns.
        values: (n,) float64, what the steps so far made of it; [0, 1] from the window on.
        counts: (n,) int64, how often it occurs in a regular sample of the image, padding left out.
        padding: (n,) bool, whether it stands for no picture.
        full: lowest and highest value that the stored bits can become, before the window.
        applied: the steps taken, with their parameters.
        assumed: what was taken for granted, because a tag is missing or makes no sense.
    """

    stored: NDArray[np.int64]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    padding: NDArray[np.bool_]
    full: tuple[float, float]
    applied: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


Step = Callable[[GreyTable, Header], GreyTable]


def render(pixels: NDArray[np.unsignedinteger], header: Header) -> GreyTable:
    """Take all steps.

    Args:
        pixels: (rows, columns) uint8 or uint16, bit patterns as stored.
        header: with the tags of the pipeline.

    Returns:
        The table whose `values`, in [0, 1], are the image: `values[pixels]`; bright is dense.

    Raises:
        RejectedFile: the modality LUT cannot be applied.

    Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric interpretation),
    C.7.5.1.1.2 (pixel padding).
    """
    table = _stored_values(pixels, header)
    for step in STEPS:
        table = step(table, header)
    return table


def sampled(pixels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """A regular sample of an image's pixels, 256 to 511 a side where there are as many: enough for statistics."""
    steps = [max(side // _SAMPLED_SIDE, 1) for side in pixels.shape]
    return pixels[:: steps[0], :: steps[1]]


def _stored_values(pixels: NDArray[np.unsignedinteger], header: Header) -> GreyTable:
    """Bit patterns to numbers: the BitsStored bits that end at HighBit, in two's complement if signed."""
    bits = header.integer("BitsStored") or 8 * pixels.dtype.itemsize
    high = header.integer("HighBit")
    shift = max((bits - 1 if high is None else high) + 1 - bits, 0)
    patterns = np.arange(2 ** (8 * pixels.dtype.itemsize), dtype=np.int64)
    stored = (patterns >> shift) & (2**bits - 1)
    low, top = 0.0, 2.0**bits - 1
    if header.integer("PixelRepresentation") == 1:
        stored = np.where(stored >= 2 ** (bits - 1), stored - 2**bits, stored)
        low, top = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    counts = np.bincount(sampled(pixels).ravel(), minlength=len(patterns))
    stray = bool(counts[patterns >> shift >= 2**bits].any())
    return GreyTable(
        stored=stored,
        values=stored.astype(np.float64),
        counts=counts,
        padding=np.zeros(len(patterns), dtype=np.bool_),
        full=(low, top),
        assumed=("bits above HighBit are no part of the values",) if stray else (),
    )


def padding(table: GreyTable, header: Header) -> GreyTable:
    """Mark the stored values that stand for no picture, PixelPaddingValue to PixelPaddingRangeLimit."""
    first = header.integer("PixelPaddingValue")
    if first is None:
        return table
    last = header.integer("PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    marked = (table.stored >= low) & (table.stored <= high)
    if not table.counts[~marked].any():
        return replace(
            table, assumed=(*table.assumed, f"pixel padding {low} to {high} ignored: it is the whole picture")
        )
    return replace(
        table,
        padding=marked,
        counts=np.where(marked, 0, table.counts),
        applied=(*table.applied, f"padding {low} to {high}"),
    )


def modality_lut(table: GreyTable, header: Header) -> GreyTable:
    """ModalityLUTSequence, else RescaleSlope and RescaleIntercept."""
    if header.has("ModalityLUTSequence"):
        try:
            values = np.asarray(apply_modality_lut(table.stored, header.dataset), dtype=np.float64)
            top = 2.0 ** int(header.dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
        except DICOM_ERRORS as error:
            raise RejectedFile(
                RejectionReason.BROKEN,
                f"ModalityLUTSequence (0028,3000) cannot be applied ({type(error).__name__}). Repair the header",
            ) from error
        return replace(table, values=values, full=(0.0, top), applied=(*table.applied, "modality LUT"))
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope is None and intercept is None:
        return table
    if not slope:
        note = f"rescale slope 1 instead of {slope}"
        table, slope = replace(table, assumed=(*table.assumed, note)), 1.0
    intercept = intercept or 0.0
    low, top = sorted(end * slope + intercept for end in table.full)
    note = f"rescale {slope:g} x + {intercept:g}"
    return replace(table, values=table.values * slope + intercept, full=(low, top), applied=(*table.applied, note))


def voi(table: GreyTable, header: Header) -> GreyTable:
    """VOILUTSequence, else the first window, else the full range; percentiles where table or window make no sense."""
    if header.has("VOILUTSequence"):
        try:
            return _visible(_through_voi_lut(table, header))
        except (*DICOM_ERRORS, _Senseless) as error:
            table = replace(
                table, assumed=(*table.assumed, f"VOI LUT ignored: it cannot be applied ({type(error).__name__})")
            )
    if not header.text("WindowCenter") and not header.text("WindowWidth"):
        low, top = table.full
        return _linear(table, low, top, f"full range {low:g} to {top:g}")
    try:
        return _visible(_windowed(table, header))
    except _Senseless as error:
        low, top = percentiles(table, *PERCENTILES)
        note = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} instead: {error}"
        table = replace(table, assumed=(*table.assumed, note))
        return _linear(table, low, top, f"percentile window {low:g} to {top:g}")


class _Senseless(Exception):
    """A window or table that would show nothing."""


def _windowed(table: GreyTable, header: Header) -> GreyTable:
    """The three functions of C.11.2.1.2 and C.11.2.1.3, with their result in [0, 1]."""
    center, width = header.number("WindowCenter"), header.number("WindowWidth")
    function = header.text("VOILUTFunction").upper() or "LINEAR"
    smallest = 1.0 if function == "LINEAR" else 0.0
    if center is None or width is None or width <= smallest:
        raise _Senseless(f"{function} window of center {center} and width {width}")
    x = table.values
    if function == "SIGMOID":
        shown = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (x - center) / width, -700.0, 700.0)))
    elif function == "LINEAR_EXACT":
        shown = np.clip((x - center) / width + 0.5, 0.0, 1.0)
    elif function == "LINEAR":
        shown = np.clip((x - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)
    else:
        raise _Senseless("a VOI LUT function that the standard does not know")
    note = f"window {function} center {center:g} width {width:g}"
    return replace(table, values=shown, applied=(*table.applied, note))


def _through_voi_lut(table: GreyTable, header: Header) -> GreyTable:
    item = header.dataset.VOILUTSequence[0]
    bits = int(item.LUTDescriptor[2])
    looked_up = np.asarray(apply_voi(np.rint(table.values).astype(np.int32), header.dataset, index=0), dtype=np.float64)
    top, highest = 2.0**bits - 1.0, float(looked_up.max())
    if 0 < highest < top / 2:  # a 12-bit table that claims 16 bits would come out nearly black
        table = replace(
            table, assumed=(*table.assumed, f"VOI LUT scaled by its highest entry {highest:g}, not by {bits} bits")
        )
        top = highest
    if top <= 0 or highest > top:
        raise _Senseless("entries beyond its bits")
    return replace(table, values=looked_up / top, applied=(*table.applied, f"VOI LUT of {bits} bits"))


def _visible(table: GreyTable) -> GreyTable:
    """Refuses a window beside the values of the picture: all of it would be one grey."""
    shown = table.values[table.counts > 0]
    if len(shown) > 1 and shown.min() == shown.max():
        raise _Senseless("all values of the picture lie outside it")
    return table


def percentiles(table: GreyTable, low: float, high: float) -> tuple[float, float]:
    """Two percentiles of the picture's values.

    Args:
        table: counts some pixel.
        low: above 0.
        high: at most 100.
    """
    seen = np.flatnonzero(table.counts)
    order = seen[np.argsort(table.values[seen], kind="stable")]
    reached = np.cumsum(table.counts[order])
    first, last = table.values[order[np.searchsorted(reached, np.array([low, high]) / 100 * reached[-1])]]
    return float(first), float(last)


def _linear(table: GreyTable, low: float, top: float, note: str) -> GreyTable:
    span = top - low or 1.0
    return replace(table, values=np.clip((table.values - low) / span, 0.0, 1.0), applied=(*table.applied, note))


def polarity(table: GreyTable, header: Header) -> GreyTable:
    """MONOCHROME1 and PresentationLUTShape INVERSE say the same, low is bright: either inverts, once."""
    first = header.text("PhotometricInterpretation") == "MONOCHROME1"
    if not first and header.text("PresentationLUTShape").upper() != "INVERSE":
        return table
    note = "inverted by MONOCHROME1" if first else "inverted by PresentationLUTShape"
    return inverted(table, note)


def inverted(table: GreyTable, note: str) -> GreyTable:
    """The negative; padding stays dark."""
    values = np.where(table.padding, 0.0, 1.0 - table.values)
    return replace(table, values=values, applied=(*table.applied, note))


def dark_padding(table: GreyTable, header: Header) -> GreyTable:
    """Padding is as dark as air, whatever its stored value would have become."""
    return replace(table, values=np.where(table.padding, 0.0, table.values))


STEPS: tuple[Step, ...] = (padding, modality_lut, voi, polarity, dark_padding)
