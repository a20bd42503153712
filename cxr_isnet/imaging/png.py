"""A fast encoder of 16-bit grey PNG."""

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
SOFTWARE = "cxr-isnet"
"""Of the text chunk "Software": grey values of such a picture fill the range from 0 to 65535 as they are."""

_UP = 2
_GREY = 0


def encode_png(shape: tuple[int, int], bands: Iterable[NDArray[np.uint16]]) -> Iterator[bytes]:
    """Encodes a grey image without loss.

    Every row is stored as its difference to the row above, deflated by ISA-L, or where that is not installed by zlib
    with run lengths and Huffman codes only. On radiographs, in which repeated strings are rare, both are smaller than
    what Pillow writes at its fastest setting, in a tenth and in a quarter of its time; ISA-L searches the smallest
    window, which takes a tenth less time and compresses as well. A band of rows stays in the CPU's cache from the
    look-up of its grey values to the file.

    Args:
        shape: rows and columns of the image, at least one of each.
        bands: the image from top to bottom in bands of some rows, (rows, columns) uint16 in any byte order.

    Yields:
        The bytes of the file, piece by piece.

    Source: W3C Portable Network Graphics, 5 (structure), 9 (filtering).
    """
    rows, columns = shape
    yield _SIGNATURE
    yield from _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 16, _GREY, 0, 0, 0))
    yield from _chunk(b"tEXt", b"Software\0" + SOFTWARE.encode("latin-1"))
    for part in _deflate(bands, columns):
        if part:
            yield from _chunk(b"IDAT", part)
    yield from _chunk(b"IEND", b"")


def _deflate(bands: Iterable[NDArray[np.uint16]], columns: int) -> Iterator[bytes]:
    """Filters and compresses the rows to a stream of zlib's format."""
    compressor = (
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
        yield compressor.compress(filtered.data)
    yield compressor.flush()


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", _crc32(data, _crc32(kind)))
