"""Peak memory and time of an intake over files that are made to cost much, each beside a whole one.

    python benchmarks/hostile_files.py --json result.json
    python benchmarks/hostile_files.py --only deflated rle

Each is taken in by an intake of its own, with one worker and the standard limits. The peak is that of its largest
process: the main one, the one that lists archives, or the worker. The whole file is among those that are accepted.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import resource
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from cxr_isnet.commands.intake import IntakeConfig, intake

FILES: dict[str, Callable[[Path], None]] = {}
"""What writes a hostile file into a folder, by a word for it."""


def hostile(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """Adds a hostile file to `FILES` under the name of the function that writes it."""
    FILES[write.__name__] = write
    return write


def main() -> None:
    """Measures one file after the other, and prints what each cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=FILES, default=list(FILES), help="some of the files")
    parser.add_argument("--json", help="file for the result")
    args = parser.parse_args()
    result = {}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = _in_process(name, Path(folder))
        print(name, json.dumps(result[name]), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def _in_process(name: str, folder: Path) -> dict[str, Any]:
    (folder / "root").mkdir()
    (folder / "root" / "whole.dcm").write_bytes(_file(_chest()))
    FILES[name](folder / "root")
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(folder, sender))
    process.start()
    sender.close()
    found: dict[str, Any] = receiver.recv()
    process.join()
    return found


def _measure(folder: Path, sender: Any) -> None:
    start = time.perf_counter()
    intake(IntakeConfig(str(folder / "root"), str(folder / "out"), workers=1))
    seconds = time.perf_counter() - start
    main_peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    peaks = int(main_peak.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with (folder / "out/quarantine.csv").open(newline="") as stream:
        reasons = Counter(row["reason"] for row in csv.DictReader(stream))
    with (folder / "out/manifest.csv").open(newline="") as stream:
        accepted = len(list(csv.DictReader(stream)))
    sender.send(
        {"megabytes": max(peaks) // 1024, "seconds": round(seconds, 1), "rejected": reasons, "accepted": accepted}
    )


def _chest(pixels: np.ndarray | None = None, **elements: Any) -> FileDataset:
    shown = np.add.outer(np.arange(64), np.arange(64)).astype("<u2") if pixels is None else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        uid.ExplicitVRLittleEndian,
        uid.ComputedRadiographyImageStorage,
    )
    meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    standard = {
        "SOPClassUID": uid.ComputedRadiographyImageStorage,
        "SOPInstanceUID": "2.25.1",
        "Modality": "CR",
        "PatientID": "1",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": shown.shape[0],
        "Columns": shown.shape[1],
        "SamplesPerPixel": 1,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": shown.tobytes(),
    }
    for keyword, value in (standard | elements).items():
        setattr(dataset, keyword, value)
    return dataset


def _file(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _before_pixels(content: bytes, inserted: Iterator[bytes], path: Path) -> None:
    """Writes a file with more bytes before its pixels, which the header therefore has."""
    at = content.index(struct.pack("<HH", 0x7FE0, 0x0010))
    with path.open("wb") as stream:
        stream.write(content[:at])
        for piece in inserted:
            stream.write(piece)
        stream.write(content[at:])


@hostile
def deflated(root: Path) -> None:
    """3 MB that inflate to 3 GB of one private element."""
    plain = _file(_chest())
    start = plain.index(struct.pack("<HH", 0x0008, 0x0016))  # behind the file meta information
    head = plain[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    length = struct.unpack("<I", head[140:144])[0] + 2
    at = head.index(b"1.2.840.10008.1.2.1.99") - 2
    head = head[:140] + struct.pack("<I", length) + head[144:at] + struct.pack("<H", 22) + head[at + 2 :]
    size = 3 * 10**9
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    with (root / "hostile.dcm").open("wb") as stream:
        stream.write(head)
        stream.write(deflater.compress(plain[start : plain.index(struct.pack("<HH", 0x7FE0, 0x0010))]))
        stream.write(deflater.compress(struct.pack("<HH2sHI", 0x0029, 0x1010, b"OB", 0, size)))
        for _ in range(size // 10**7):
            stream.write(deflater.compress(bytes(10**7)))
        stream.write(deflater.flush())


@hostile
def rle(root: Path) -> None:
    """60 megapixels of zeros, run-length encoded."""
    rows = columns = 7744
    segment = b"\x81\x00" * (rows * columns // 128 + 1)
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *([0] * 13))
    dataset = _chest(Rows=rows, Columns=columns, PixelData=encapsulate([header + segment + segment]))
    dataset["PixelData"].is_undefined_length, dataset["PixelData"].VR = True, "OB"
    dataset.file_meta.TransferSyntaxUID = uid.RLELossless
    (root / "hostile.dcm").write_bytes(_file(dataset))


def _items(count: int) -> Iterator[bytes]:
    """A ViewCodeSequence of empty items; intake reads it, and a private sequence not."""
    yield struct.pack("<HH2sHI", 0x0054, 0x0220, b"SQ", 0, 8 * count)
    for _ in range(10):
        yield struct.pack("<HHI", 0xFFFE, 0xE000, 0) * (count // 10)


@hostile
def items(root: Path) -> None:
    """12.5 million empty items in a header of 100 MB."""
    _before_pixels(_file(_chest()), _items(12_500_000), root / "hostile.dcm")


@hostile
def nested(root: Path) -> None:
    """20,000 sequences in each other."""
    opened = struct.pack("<HH2sHIHHI", 0x0029, 0x1010, b"SQ", 0, 2**32 - 1, 0xFFFE, 0xE000, 2**32 - 1)
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    _before_pixels(_file(_chest()), iter([opened * 20_000, closed * 20_000]), root / "hostile.dcm")


@hostile
def sides(root: Path) -> None:
    """Rows and Columns of 65,535, and a length of 4 GB."""
    (root / "hostile.dcm").write_bytes(_file(_chest(Rows=65535, Columns=65535)))
    long = struct.pack("<HH2sHI", 0x0029, 0x1010, b"OB", 0, 2**32 - 2)
    _before_pixels(_file(_chest()), iter([long]), root / "long.dcm")


@hostile
def dicomdir(root: Path) -> None:
    """A DICOMDIR of 12.5 million empty records."""
    empty = struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, 8 * 12_500_000)
    pieces = iter([empty, *list(_items(12_500_000))[1:]])
    _before_pixels(_file(_chest()), pieces, root / "DICOMDIR")


@hostile
def zip_list(root: Path) -> None:
    """An archive whose list has 5 million members, all at one place."""
    count, name = 5_000_000, b"a"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + name
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + name
    size = count * len(entry)
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, len(local))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(local) + size, 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    with (root / "hostile.zip").open("wb") as stream:
        stream.write(local)
        for _ in range(50):
            stream.write(entry * (count // 50))
        stream.write(end + locator + last)


@hostile
def zip_members(root: Path) -> None:
    """An archive of 20,000 members that are no images."""
    with zipfile.ZipFile(root / "hostile.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:06}", b"no image")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
