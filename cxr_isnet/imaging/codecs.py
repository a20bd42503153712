"""Decoders of the package imagecodecs, as a plugin of pydicom, for the transfer syntaxes that its own decode slowly.

They decode plain, whole grey frames to the same values. A frame that looks unusual or damaged is an error here and is
left to pydicom's own decoders. Damage inside a scan of JPEG lossless that leaves its markers in place is detected by
none of them: each gives other wrong values.
"""

import struct
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import Decoder, DecodeRunner
from pydicom.uid import (
    UID,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

PLUGIN = "imagecodecs"


class UnusualFrameError(ValueError):
    """A frame that must be left to pydicom's own decoders."""


@cache
def fast_decoder(syntax: UID) -> Decoder | None:
    """The decoder of a transfer syntax that has this plugin only; pydicom's own decoders stay as they are.

    Args:
        syntax: of the pixel data.

    Returns:
        None where pydicom's own decoder is as fast, or imagecodecs is not installed.
    """
    if syntax not in _DECODE or find_spec("imagecodecs") is None:
        return None
    decoder = Decoder(syntax)
    decoder.add_plugin(PLUGIN, (__name__, decode_frame.__name__))
    return decoder


def is_available(syntax: str) -> bool:
    """Whether frames of a transfer syntax can be decoded; pydicom calls it for every plugin."""
    return syntax in _DECODE


def decode_frame(src: bytes, runner: DecodeRunner) -> memoryview:
    """Decodes one frame; pydicom calls it.

    Args:
        src: the encoded frame.
        runner: pydicom's, with the values of the header.

    Returns:
        The pixels as bytes, row by row, in little endian; not a copy, as pydicom makes one.

    Raises:
        UnusualFrameError: not grey, damaged, or of another size or depth than the header says.
        RuntimeError: imagecodecs cannot decode it.
    """
    size = runner.bits_allocated // 8
    if runner.samples_per_pixel != 1 or size not in (1, 2):
        raise UnusualFrameError(f"{runner.samples_per_pixel} samples of {runner.bits_allocated} bits")
    pixels = _DECODE[runner.transfer_syntax](src, (runner.rows, runner.columns), size)
    if pixels.shape != (runner.rows, runner.columns) or pixels.dtype.itemsize != size:
        raise UnusualFrameError(f"{pixels.shape} pixels of {pixels.dtype}")
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).data.cast("B")


class Codestream(NamedTuple):
    """What a compressed frame says of itself.

    Attributes:
        pixels: rows times columns.
        bits: of a sample, 1 to 38.
    """

    pixels: int
    bits: int


def read_codestream(data: bytes) -> Codestream | None:
    """What the first frame of JPEG, JPEG-LS or JPEG 2000 says of itself; None where none is found.

    Args:
        data: encapsulated pixel data; its beginning is enough.

    Source: ITU-T T.81, B.2.2 (frame header), T.87, C.2.2; ISO/IEC 15444-1, A.5.1 (SIZ).
    """
    jpeg_2000, jpeg = data.find(b"\xff\x4f\xff\x51"), data.find(b"\xff\xd8\xff")
    if jpeg_2000 >= 0 and (jpeg < 0 or jpeg_2000 < jpeg):
        if len(data) < jpeg_2000 + 43:
            return None
        right, bottom, left, top = struct.unpack_from(">4L", data, jpeg_2000 + 8)
        return Codestream(max(0, right - left) * max(0, bottom - top), (data[jpeg_2000 + 42] & 0x7F) + 1)
    place = jpeg + 2
    while 0 < jpeg < place and place + 9 <= len(data) and data[place] == 0xFF:
        marker, length, bits, rows, columns = struct.unpack_from(">HHBHH", data, place)
        if marker in _FRAME_HEADERS:
            return Codestream(int(rows) * int(columns), int(bits))
        place += 2 + int(length)
    return None


_FRAME_HEADERS = frozenset({*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC})


def _rle(src: bytes, shape: tuple[int, int], size: int) -> NDArray[np.unsignedinteger]:
    """Decodes RLE (PS3.5, Annex G); the table of segments is checked here because imagecodecs trusts it."""
    import imagecodecs

    if len(src) < _RLE_HEADER.size:
        raise UnusualFrameError(f"{len(src)} bytes")
    number, *offsets = _RLE_HEADER.unpack_from(src)
    bounds = (_RLE_HEADER.size, *offsets[1:size], len(src))
    if number != size or offsets[0] != _RLE_HEADER.size or any(start >= end for start, end in pairwise(bounds)):
        raise UnusualFrameError(f"{number} segments at {offsets[:size]}")
    if len(src) > 2 * shape[0] * shape[1] * size + _RLE_HEADER.size:
        raise UnusualFrameError(f"{len(src)} bytes: more than twice what it decodes to")
    kind = np.dtype(f"<u{size}")
    decoded = imagecodecs.dicomrle_decode(src, kind.str)
    if len(decoded) != shape[0] * shape[1] * size:
        raise UnusualFrameError(f"{len(decoded)} bytes")
    return np.frombuffer(decoded, kind).reshape(shape)


_RLE_HEADER = struct.Struct("<16L")


def _jpeg_lossless(src: bytes, shape: tuple[int, int], size: int) -> NDArray[np.unsignedinteger]:
    """Decodes JPEG lossless (process 14) by libjpeg-turbo, which fills gaps of a damaged scan without an error."""
    import imagecodecs

    _check_scan(src, _stuffed_by_zero)
    return imagecodecs.jpeg8_decode(src)


def _jpeg_ls(src: bytes, shape: tuple[int, int], size: int) -> NDArray[np.unsignedinteger]:
    """Decodes JPEG-LS by CharLS, which in imagecodecs never returns from a truncated scan."""
    import imagecodecs

    _check_scan(src, _stuffed_by_a_bit)
    return imagecodecs.jpegls_decode(src)


def _stuffed_by_zero(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a byte may follow 0xFF in a scan of JPEG: zero or the code of a restart (ITU-T T.81, B.1.1.5)."""
    return np.asarray((codes == 0) | (codes & 0xF8 == 0xD0))


def _stuffed_by_a_bit(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a byte may follow 0xFF in a scan of JPEG-LS: it begins with a zero bit (ITU-T T.87, Annex A)."""
    return codes < 0x80


def _check_scan(src: bytes, may_follow: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> None:
    """Raises `UnusualFrameError` unless there is one scan and it ends where the image does."""
    codes = np.frombuffer(src, np.uint8, offset=_start_of_scan(src))
    follower = np.flatnonzero(codes[:-1] == 0xFF) + 1
    markers = follower[~may_follow(codes[follower])]
    if len(markers) != 1 or codes[markers[0]] != _END_OF_IMAGE or codes[markers[0] + 1 :].any():
        raise UnusualFrameError("the scan does not end where the image does")


def _start_of_scan(src: bytes) -> int:
    """The offset at which the entropy-coded data of the first scan begin (ITU-T T.81, B.1)."""
    place = 2
    while place + 4 < len(src):
        marker, length = struct.unpack_from(">HH", src, place)
        if marker == _HUFFMAN_TABLE:
            _check_categories(src[place + 5 : place + 2 + length])
        place += 2 + int(length)
        if marker == _START_OF_SCAN and place < len(src):
            return place
        if marker < _FIRST_MARKER:
            break
    raise UnusualFrameError("no scan")


def _check_categories(table: bytes) -> None:
    """Raises `UnusualFrameError` unless it is one Huffman table of process 14: at most one code for each of the
    categories 0 to 16 (ITU-T T.81, H.1.2.2)."""
    categories = table[16:]
    if len(categories) != sum(table[:16]) or len(set(categories)) < len(categories) or max(categories, default=17) > 16:
        raise UnusualFrameError("a damaged Huffman table, or several of them")


_START_OF_SCAN = 0xFFDA
_HUFFMAN_TABLE = 0xFFC4
_FIRST_MARKER = 0xFFC0
_END_OF_IMAGE = 0xD9


_DECODE: dict[str, Callable[[bytes, tuple[int, int], int], NDArray[np.unsignedinteger]]] = {
    RLELossless: _rle,
    JPEGLossless: _jpeg_lossless,
    JPEGLosslessSV1: _jpeg_lossless,
    JPEGLSLossless: _jpeg_ls,
    JPEGLSNearLossless: _jpeg_ls,
}
