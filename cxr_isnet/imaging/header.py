"""Tolerant reading of DICOM headers: a value that cannot be read as its type counts as absent."""

import logging
import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason
from cxr_isnet.imaging.terms import OTHER, TERMS

DICOM_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,  # a length field that claims gigabytes
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Exceptions that pydicom and its decoders raise on malformed files."""

PREAMBLE = 128
LARGEST_PIXELS = 64_000_000
"""Rows times columns of an image, whoever reads it: four times the largest flat panel detectors."""

INFLATED_PER_PIXEL = 8
MOST_INFLATED = INFLATED_PER_PIXEL * LARGEST_PIXELS
"""Bytes to which a deflated file may inflate."""

_LONGEST_NUMBERS = 4096
_PREFIX = b"DICM"
_BARE_STARTS = (b"\x02\x00", b"\x08\x00")
_BARE_BIG_ENDIAN = re.compile(rb"\x00[\x02\x08]..[A-Z]{2}", re.DOTALL)


_UNPACK = "a compressed file or an archive that is no zip. Unpack it"
_PICTURE = "a picture and not DICOM. Take it in by `cxr-isnet manifest build folder`"
_OTHERS: dict[bytes, tuple[RejectionReason, str]] = {
    **dict.fromkeys(
        [b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd"],
        (RejectionReason.ARCHIVE, _UNPACK),
    ),
    b"PK\x03\x04": (RejectionReason.ARCHIVE, "a zip archive by another name, or an office document. Name it .zip"),
    **dict.fromkeys(
        [b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8"], (RejectionReason.NOT_DICOM, _PICTURE)
    ),
}
"""What a file is that is no DICOM, by its first bytes, with the remedy."""

_TAR, _TAR_AT = b"ustar", 257


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silences pydicom's warnings, which may quote any tag, a person's name among them.

    Threads may overlap: the first that enters silences for all, and the last that leaves restores.
    """
    _silence.begin()
    try:
        yield
    finally:
        _silence.end()


class _Silence:
    """Silences pydicom's log and all warnings, which Python keeps per process, not per thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    def begin(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._undo.enter_context(_mute_log())

    def end(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


_silence = _Silence()


@contextmanager
def _mute_log() -> Iterator[None]:
    """Detaches the handlers of pydicom's log.

    Its level is left alone: a change of level clears the cache of every logger of the process, which takes a
    millisecond.
    """
    log = logging.getLogger("pydicom")
    saved = log.handlers, log.propagate
    log.handlers, log.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        log.handlers, log.propagate = saved


def starts_like_dicom(head: bytes) -> bool:
    """Whether a file is DICOM by its first 132 bytes.

    Either the prefix DICM follows the preamble (PS3.10, 7.1), or the file has neither, as some exports do, and starts
    with an element of group 0002 or 0008, in big endian with its VR.
    """
    bare = head[:2] in _BARE_STARTS or _BARE_BIG_ENDIAN.match(head) is not None
    return bare or head[PREAMBLE : PREAMBLE + 4] == _PREFIX


def read_header(stream: BinaryIO, most_inflated: int = MOST_INFLATED) -> Dataset:
    """Parses a file up to its pixel data.

    Args:
        stream: the file; is read from its start.
        most_inflated: bytes to which a deflated file may inflate.

    Returns:
        The data set without pixel data.

    Raises:
        RejectedFile: not DICOM, an archive, the header does not parse, or the file inflates to more.
    """
    stream.seek(0)
    head = stream.read(PREAMBLE + 4)
    if not starts_like_dicom(head):
        raise RejectedFile(*_what_it_is(head + stream.read(_TAR_AT + len(_TAR) - len(head))))
    _check_deflated(stream, most_inflated)
    stream.seek(0)
    try:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    except DICOM_ERRORS as error:
        raise _unparsed(error) from error
    if not len(dataset):
        raise RejectedFile(RejectionReason.BROKEN, "the file holds no data element. Copy the file anew from its source")
    return dataset


def _what_it_is(head: bytes) -> tuple[RejectionReason, str]:
    if not head:
        return RejectionReason.NOT_DICOM, "the file is empty. Copy it anew from its source"
    if head[_TAR_AT:] == _TAR:
        return RejectionReason.ARCHIVE, _UNPACK
    nothing_known = "no DICOM prefix after 128 bytes: not a DICOM file. Remove it, or copy it anew"
    found = (told for start, told in _OTHERS.items() if head.startswith(start))
    return next(found, (RejectionReason.NOT_DICOM, nothing_known))


def _check_deflated(stream: BinaryIO, most: int) -> None:
    """Refuses a deflated data set (PS3.5, A.5) that inflates to more bytes; pydicom inflates it whole."""
    stream.seek(PREAMBLE + 4)
    try:
        with quiet_pydicom():
            meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
            syntax = meta.get("TransferSyntaxUID")
    except DICOM_ERRORS:
        return  # without a preamble there is no syntax to deflate by; what else is wrong, the reader says
    if syntax != DeflatedExplicitVRLittleEndian:
        return
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        data = stream.read(1 << 16)
        while data and not inflater.eof:
            inflated += len(inflater.decompress(data, 1 << 20))
            if inflated > most:
                raise RejectedFile(RejectionReason.LIMIT, f"inflates to more than {most} bytes. Give it plain")
            data = inflater.unconsumed_tail or stream.read(1 << 16)
    except zlib.error:
        return  # the reader says so


@contextmanager
def open_header(source: Path | BinaryIO) -> Iterator["Header"]:
    """The header of a DICOM file, of which no pixels are read; pydicom is silent within the block.

    Args:
        source: a DICOM file.

    Raises:
        RejectedFile: the file cannot be read, is not DICOM, or its header does not parse; names no path, since a path
            may hold a person's name.
    """
    with quiet_pydicom():
        try:
            with source.open("rb") if isinstance(source, Path) else nullcontext(source) as stream:
                dataset = read_header(stream)
        except OSError as error:
            raise RejectedFile.unreadable(error) from error
        yield Header(dataset)


def read_pixel_data(stream: BinaryIO, dataset: Dataset) -> None:
    """Parses the rest of a file into the data set of its header.

    Args:
        stream: the file, positioned where `read_header` stopped.
        dataset: as returned by `read_header`; is changed.

    Raises:
        RejectedFile: it does not parse, or ends too early.
    """
    implicit, little = dataset.original_encoding
    start = stream.tell()
    try:
        if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:  # inflated as a whole
            stream.seek(0)
            rest: Dataset = pydicom.dcmread(stream, force=True)
        else:
            rest = pydicom.filereader.read_dataset(stream, bool(implicit), bool(little))
    except DICOM_ERRORS as error:
        raise _unparsed(error) from error
    if not len(rest) and stream.tell() > start:
        raise RejectedFile(
            RejectionReason.BROKEN, "the file ends within its pixel data. Copy the file anew from its source"
        )
    dataset.update(rest)


def _as_number(text: str) -> float | None:
    """A finite number, None for anything else; a decimal comma, which the standard forbids (PS3.5, 6.2), is read."""
    try:
        number = float(text.replace(",", ".", 1))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _unparsed(error: Exception) -> RejectedFile:
    return RejectedFile(
        RejectionReason.BROKEN, f"the file does not parse ({type(error).__name__}). Copy the file anew from its source"
    )


class Header:
    """The header of one file: values by keyword, as plain types.

    Attributes:
        dataset: the data set of pydicom.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Wraps a data set; nothing is copied.

        Args:
            dataset: as returned by `read_header`.
        """
        self.dataset = dataset

    def _value(self, keyword: str) -> object:
        try:
            return self.dataset.get(keyword)
        except DICOM_ERRORS:  # pydicom converts values on access
            return self._unconverted(keyword)

    def _unconverted(self, keyword: str) -> object:
        """The text of a number that pydicom cannot convert, e.g. with a decimal comma; None for anything else."""
        element = self.dataset.get_item(keyword)
        raw = getattr(element, "value", None)
        if not isinstance(raw, bytes) or dictionary_VR(keyword) not in ("DS", "IS"):
            return None
        return raw.decode("ascii", "replace").split("\\") if len(raw) <= _LONGEST_NUMBERS else None

    def has(self, keyword: str) -> bool:
        """Whether the element is present, whatever its value."""
        return keyword in self.dataset

    def texts(self, keyword: str) -> tuple[str, ...]:
        """All values of an element as stripped text, () where absent or empty."""
        value = self._value(keyword)
        values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
        texts = (self._decoded(str(entry), keyword).strip(" \0") for entry in values if entry is not None)
        return tuple(text for text in texts if text)

    def _decoded(self, text: str, keyword: str) -> str:
        """A code string in letters that the standard forbids there (PS3.5, 6.2): UTF-8, or the file's character set."""
        if text.isascii() or dictionary_VR(keyword) != "CS":
            return text
        try:
            written = text.encode("latin-1")  # as pydicom reads it
        except UnicodeEncodeError:
            return text
        try:
            return written.decode("utf-8")
        except UnicodeDecodeError:
            given = list(self.texts("SpecificCharacterSet"))
        try:
            decoded = decode_bytes(written, convert_encodings(given), {ord("\\")})
        except DICOM_ERRORS:
            return text
        return text if "\ufffd" in decoded else decoded

    def text(self, keyword: str) -> str:
        """The first value as stripped text, "" where absent."""
        return next(iter(self.texts(keyword)), "")

    def identifier(self, keyword: str) -> str:
        """The value of an element that names one thing, "" where absent; also one with a backslash in it.

        The standard knows no such identifier (PS3.5, 6.2, VR LO and SH) and takes it for several values: by the first
        of them alone, two patients would be one.
        """
        return "\\".join(self.texts(keyword))

    def number(self, keyword: str) -> float | None:
        """The first value as a finite number, None where absent or not one."""
        return _as_number(self.text(keyword))

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """All values as finite numbers, () where one of them is not."""
        numbers = [_as_number(text) for text in self.texts(keyword)]
        return tuple(number for number in numbers if number is not None) if None not in numbers else ()

    def integer(self, keyword: str) -> int | None:
        """The first value as an integer, None where absent or not one."""
        number = self.number(keyword)
        return int(number) if number is not None and number == int(number) else None

    def has_items(self, keyword: str) -> bool:
        """Whether a sequence is present and not empty; one that cannot be read counts as present."""
        return self.has(keyword) and self._value(keyword) != pydicom.Sequence()

    def items(self, keyword: str) -> Iterator["Header"]:
        """The items of a sequence, none where it is absent or no sequence."""
        value = self._value(keyword)
        if isinstance(value, pydicom.Sequence):
            yield from (Header(item) for item in value)

    def code(self, keyword: str) -> str:
        """The first value for use in tables and messages: one of the closed set of its keyword, "" or `OTHER`.

        Any other value may be identifying: a code string holds any 16 capitals (PS3.5, 6.2).
        """
        text = self.text(keyword).upper()
        return text if not text or text in TERMS[keyword] else OTHER
