"""Pixel data in any transfer syntax to the stored values of one frame."""

import logging
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
)

from cxr_isnet.imaging.codecs import PLUGIN, Codestream, fast_decoder, read_codestream
from cxr_isnet.imaging.header import DICOM_ERRORS, Header
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason

logger = logging.getLogger(__name__)

_FASTEST = {
    JPEGBaseline8Bit: "pillow",
    **dict.fromkeys((JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), "pylibjpeg"),
}
"""The plugin to prefer where pydicom tries a slower one first; the decoded values are the same."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def stored_pixels(dataset: Dataset, header: Header, syntax: UID) -> tuple[NDArray[np.unsignedinteger], tuple[str, ...]]:
    """Decodes the first frame.

    Args:
        dataset: with its pixel data.
        header: of the same file, which has been accepted.
        syntax: of the pixel data, from `transfer_syntax`.

    Returns:
        (rows, columns), uint8 or uint16: the stored bit patterns, sign not interpreted; colour as luma; and the values
        assumed for missing tags.

    Raises:
        RejectedFile: no pixel data, a pixel format that radiographs do not have, or data that do not decode.
    """
    assumed = _fill_missing_tags(dataset, header)
    codestream = _checked_codestream(dataset, header, syntax)
    try:
        pixels = _first_frame(dataset, header, syntax)
    except DICOM_ERRORS as error:
        raise RejectedFile(
            RejectionReason.UNDECODABLE,
            f"pixel data (7FE0,0010) in transfer syntax {_syntax_name(syntax)} cannot be decoded "
            f"({type(error).__name__}). {_remedy(syntax)}",
        ) from error
    if pixels.ndim == 3:
        pixels = np.rint(pixels @ _LUMA).astype(pixels.dtype)
    if pixels.dtype.itemsize > 2 or pixels.dtype.kind not in "iu":
        raise RejectedFile(
            RejectionReason.PIXEL_FORMAT, f"pixels decode as {pixels.dtype}. Give 8 or 16 bits per pixel"
        )
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    patterns = native.view(f"u{native.dtype.itemsize}")
    return patterns, (*assumed, *_correct_bits(patterns, dataset, header, codestream))


def _remedy(syntax: UID) -> str:
    """What helps against an error of decoding."""
    try:
        if get_decoder(syntax).is_available:
            return "Copy the file anew from its source"
    except NotImplementedError:
        return "Transcode it to an uncompressed transfer syntax"
    return "Install the decoders with pip install 'cxr-isnet[dicom]'"


def _first_frame(dataset: Dataset, header: Header, syntax: UID) -> NDArray[Any]:
    if syntax == JPEGExtended12Bit and (header.integer("BitsStored") or 0) > 8:
        # GDCM takes the process from the codestream and decodes 12-bit extended JPEG, but pydicom does not ask it to
        syntax = dataset.file_meta.TransferSyntaxUID = JPEGLossless
    fast = fast_decoder(syntax)
    if fast is not None:
        try:
            frame, found = fast.as_buffer(dataset, index=0, decoding_plugin=PLUGIN)
            return np.frombuffer(frame, f"<u{int(found['bits_allocated']) // 8}").reshape(-1, int(found["columns"]))
        except DICOM_ERRORS:
            logger.debug("left to pydicom's own decoders")
    decoder = get_decoder(syntax)
    plugin = _FASTEST.get(syntax, "")
    pixels, _ = decoder.as_array(
        dataset,
        raw=header.integer("SamplesPerPixel") != 3,
        index=0,
        correct_unused_bits=False,  # type: ignore[arg-type]  # True keeps the bits up to BitsStored, wherever HighBit is
        decoding_plugin=plugin if plugin in decoder.available_plugins else "",
    )
    return pixels


def _checked_codestream(dataset: Dataset, header: Header, syntax: UID) -> Codestream | None:
    """What a compressed frame says of itself, None for any other.

    Refuses a frame that says more pixels than the header: decoders allocate what it says.
    """
    if not (syntax.is_valid and syntax.is_transfer_syntax and syntax.is_compressed):
        return None
    data = dataset.get("PixelData")
    said = (header.integer("Rows") or 0) * (header.integer("Columns") or 0)
    found = read_codestream(data[:_CODESTREAM_HEAD]) if isinstance(data, bytes) else None
    if found is not None and found.pixels > said + _SLACK_PIXELS:
        raise RejectedFile(
            RejectionReason.UNDECODABLE,
            f"the compressed frame has {found.pixels} pixels, Rows (0028,0010) and Columns (0028,0011) say {said}. "
            "Copy the file anew from its source",
        )
    return found


def _correct_bits(
    pixels: NDArray[np.unsignedinteger], dataset: Dataset, header: Header, codestream: Codestream | None
) -> tuple[str, ...]:
    """Corrects BitsStored and HighBit where the samples contradict them; says what it assumed.

    A compressed sample has the bits of its codestream and ends at its lowest bit, whatever HighBit says of the
    container (PS3.5, 8.2). An encoder may still have compressed containers as they were: the values tell.
    """
    stored, high = header.integer("BitsStored") or 0, header.integer("HighBit") or 0
    bits = codestream.bits if codestream is not None else stored
    right = high + 1 == stored
    if bits == stored and right:
        return ()
    fits = int(pixels.max()) < 2**stored
    beyond = right and not fits and bits < (header.integer("BitsAllocated") or 0)  # not overlays in unused bits
    if not (bits < stored or beyond or (not right and fits)):
        return ()
    stored_now = bits if bits < stored or beyond else stored
    assumed = []
    for keyword, value, given in (("BitsStored", stored_now, stored), ("HighBit", stored_now - 1, high)):
        if value != given:
            setattr(dataset, keyword, value)
            assumed.append(f"{keyword} {value} instead of {given}, by the samples")
    return tuple(assumed)


_CODESTREAM_HEAD = 1 << 16
_SLACK_PIXELS = 1 << 16


def _fill_missing_tags(dataset: Dataset, header: Header) -> tuple[str, ...]:
    """Checks the tags that decoding needs and fills in those of which only one value makes sense."""
    if not header.has("PixelData"):
        raise RejectedFile(
            RejectionReason.NO_PIXELS, "PixelData (7FE0,0010) is missing. Give the object that holds the image"
        )
    for keyword, tag in (("Rows", "(0028,0010)"), ("Columns", "(0028,0011)"), ("BitsAllocated", "(0028,0100)")):
        if not header.integer(keyword):
            raise RejectedFile(
                RejectionReason.PIXEL_FORMAT, f"{keyword} {tag} is missing. Repair the header or drop the file"
            )
    allocated, stored = header.integer("BitsAllocated"), header.integer("BitsStored")
    if allocated not in (8, 16):
        raise RejectedFile(
            RejectionReason.PIXEL_FORMAT, f"BitsAllocated (0028,0100) is {allocated}. Give 8 or 16 bits per pixel"
        )
    if stored is None:
        raise RejectedFile(
            RejectionReason.PIXEL_FORMAT, "BitsStored (0028,0101) is missing. Repair the header or drop the file"
        )
    if not 1 <= stored <= allocated:
        raise RejectedFile(
            RejectionReason.PIXEL_FORMAT,
            f"BitsStored (0028,0101) is {stored} of {allocated} allocated. Repair the header",
        )
    if (sign := header.integer("PixelRepresentation")) not in (None, 0, 1):
        raise RejectedFile(
            RejectionReason.PIXEL_FORMAT, f"PixelRepresentation (0028,0103) is {sign}, not 0 or 1. Repair the header"
        )
    assumed = []
    for keyword, value in (
        ("SamplesPerPixel", 1),
        ("PixelRepresentation", 0),
        ("HighBit", stored - 1),
        ("PhotometricInterpretation", "RGB" if header.integer("SamplesPerPixel") == 3 else "MONOCHROME2"),
    ):
        if not header.text(keyword):
            if keyword in dataset:
                del dataset[tag_for_keyword(keyword) or 0]  # pydicom would try to convert what is there
            setattr(dataset, keyword, value)
            assumed.append(f"{keyword} {value}")
    given = header.text("PhotometricInterpretation")
    photometric = re.sub(r"\W+(?=[12]$)", "", given.upper())
    if photometric != given:
        dataset.PhotometricInterpretation = photometric
        assumed.append(f"PhotometricInterpretation {photometric}")
    return tuple(assumed)


def transfer_syntax(dataset: Dataset) -> UID:
    """The transfer syntax by TransferSyntaxUID (0002,0010), else by the encoding of the header (PS3.5, 10.1)."""
    given = Header(dataset.file_meta).text("TransferSyntaxUID")
    if given:
        return UID(given, validation_mode=0)
    implicit, little_endian = dataset.original_encoding
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    return syntax


def _syntax_name(syntax: UID) -> str:
    return f"{syntax.name} ({syntax})" if syntax.is_valid and syntax.is_transfer_syntax else "of an unknown kind"
