"""16-bit PNG at the speed of the decoders."""

import struct
import zlib
from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

_crc32 = (isal_zlib or zlib).crc32

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2
_GREY = 0
_ROWS_AT_A_TIME = 32


def encode_png(pixels: NDArray[np.uint16]) -> bytes:
    """Encode a grey image without loss.

    Every row is stored as its difference to the row above, deflated by ISA-L, or where that is not installed by zlib
    with run lengths and Huffman codes only. On radiographs, which are noise to a search for repeated strings, both are
    smaller than what Pillow writes at its fastest setting, in a tenth and in a quarter of its time.

    Args:
        pixels: (rows, columns) uint16, at least one pixel.

    Source: W3C Portable Network Graphics, 5 (structure), 9 (filtering).
    """
    rows, columns = pixels.shape
    header = struct.pack(">IIBBBBB", columns, rows, 16, _GREY, 0, 0, 0)
    data = (_chunk(b"IDAT", part) for part in _deflated(pixels) if part)
    chunks = (_chunk(b"IHDR", header), *data, _chunk(b"IEND", b""))
    return b"".join((_SIGNATURE, *chain.from_iterable(chunks)))


def _deflated(pixels: NDArray[np.uint16]) -> Iterator[bytes]:
    """The filtered rows in a stream of zlib's format, some rows at a time, which stay in the cache."""
    deflate = (
        isal_zlib.compressobj(level=1)
        if isal_zlib is not None
        else zlib.compressobj(level=1, wbits=15, memLevel=9, strategy=zlib.Z_RLE)
    )
    for rows in _filtered(pixels):
        yield deflate.compress(rows.data)
    yield deflate.flush()


def _filtered(pixels: NDArray[np.uint16]) -> Iterator[NDArray[np.uint8]]:
    above = np.zeros((1, 2 * pixels.shape[1]), dtype=np.uint8)
    for top in range(0, len(pixels), _ROWS_AT_A_TIME):
        data = pixels[top : top + _ROWS_AT_A_TIME].astype(">u2").view(np.uint8)
        filtered = np.empty((len(data), data.shape[1] + 1), dtype=np.uint8)
        filtered[:, 0] = _UP
        np.subtract(data, np.concatenate((above, data[:-1])), out=filtered[:, 1:])
        above = data[-1:]
        yield filtered


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", _crc32(data, _crc32(kind)))
