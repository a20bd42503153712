"""16-bit PNG at the speed of the decoders."""

import struct
import zlib
from collections.abc import Iterable, Iterator

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


def encode_png(shape: tuple[int, int], bands: Iterable[NDArray[np.uint16]]) -> Iterator[bytes]:
    """Encode a grey image without loss.

    Every row is stored as its difference to the row above, deflated by ISA-L, or where that is not installed by zlib
    with run lengths and Huffman codes only. On radiographs, which are noise to a search for repeated strings, both are
    smaller than what Pillow writes at its fastest setting, in a tenth and in a quarter of its time; ISA-L searches the
    smallest window, which takes a tenth less time and finds as much. A band of rows stays in the cache from the look-up
    of its grey values to the file.

    Args:
        shape: rows and columns of the image, at least one of each.
        bands: the image from top to bottom, some rows at a time, (rows, columns) uint16 in any byte order.

    Yields:
        The file, piece by piece.

    Source: W3C Portable Network Graphics, 5 (structure), 9 (filtering).
    """
    rows, columns = shape
    yield _SIGNATURE
    yield from _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 16, _GREY, 0, 0, 0))
    for part in _deflated(bands, columns):
        if part:
            yield from _chunk(b"IDAT", part)
    yield from _chunk(b"IEND", b"")


def _deflated(bands: Iterable[NDArray[np.uint16]], columns: int) -> Iterator[bytes]:
    """The filtered rows in a stream of zlib's format."""
    deflate = (
        isal_zlib.compressobj(level=1, wbits=9)
        if isal_zlib is not None
        else zlib.compressobj(level=1, wbits=15, memLevel=9, strategy=zlib.Z_RLE)
    )
    above = np.zeros((1, 2 * columns), dtype=np.uint8)
    for band in bands:
        data = band.astype(">u2", copy=False).view(np.uint8)
        filtered = np.empty((len(data), data.shape[1] + 1), dtype=np.uint8)
        filtered[:, 0] = _UP
        np.subtract(data[:1], above, out=filtered[:1, 1:])
        np.subtract(data[1:], data[:-1], out=filtered[1:, 1:])
        above = data[-1:]
        yield deflate.compress(filtered.data)
    yield deflate.flush()


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", _crc32(data, _crc32(kind)))
