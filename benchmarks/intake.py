"""Images per second of intake compared with a bare loop of `pydicom.dcmread(path).pixel_array` over the same files.

    python benchmarks/intake.py --files 48 --size 2048 --workers 2 --json result.json

Phantom X-rays with the noise of a detector, an equal share in each of six transfer syntaxes, are read from a warm cache
in turn by the bare loop and by intake in both of its formats: `reference`, which decodes and checks every file, and
`png`, which also writes every image. Intake's time includes the start of its processes. Ratios above 1: intake is
faster; medians over the rounds. The CPU seconds of an image, over all processes and threads, are steadier where other
programs compete for the cores; of the bare loop they exceed its time, because GDCM decodes JPEG 2000 in two threads.
`bare_decoders` are those that pydicom itself tries first; intake's faster decoders are not among them. Memory is the
highest of the main process and of a worker, measured over the files and over a part of them: a peak that does not grow
with the files is flat.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder
from transcoding import transcode

from cxr_isnet.commands.intake import IntakeConfig, intake
from cxr_isnet.intake.importer import ImageFormat

SYNTAXES = {
    "uncompressed": uid.ExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG lossless": uid.JPEGLosslessSV1,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000 lossless": uid.JPEG2000Lossless,
    "JPEG 2000": uid.JPEG2000,
}
PHANTOMS = 4


def main() -> None:
    """Measures the bare loop and intake in turn, and prints their rates."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        groups = _write_files(work / "files", args.files, args.size)
        every = [path for paths in groups.values() for path in paths]
        _bare_loop(every)  # fills the cache
        names = ["bare", *(f.value for f in ImageFormat)]
        rounds: dict[str, list[float]] = {name: [] for name in names}
        cpu: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(args.rounds):
            before = time.process_time()
            rounds["bare"].append(len(every) / _bare_loop(every))
            cpu["bare"].append((time.process_time() - before) / len(every))
            for kind in ImageFormat:
                found = _in_process(work / "files", work, kind, args.workers)
                rounds[kind.value].append(len(every) / found["seconds"])
                cpu[kind.value].append(found["cpu_seconds"] / len(every))
        result = {
            "images_per_second": {name: statistics.median(rates) for name, rates in rounds.items()},
            "ratio_to_bare_loop": _ratios(rounds, statistics.median),
            "ratio_range": _ratios(rounds, lambda values: [min(values), max(values)]),
            "cpu_seconds_per_image": {name: statistics.median(seconds) for name, seconds in cpu.items()},
            "bare_decoders": {name: _first_decoder(syntax) for name, syntax in SYNTAXES.items()},
            "bare_milliseconds": {name: 1000 * _bare_loop(paths) / len(paths) for name, paths in groups.items()},
            "peak_megabytes": _memory(work, groups, args.workers),
            "settings": {name: getattr(args, name) for name in ("files", "size", "workers", "rounds")},
            "pydicom": pydicom.__version__,
        }
    print(json.dumps(result, indent=2))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=48, help=f"number of files, at least {len(SYNTAXES)}")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for the result")
    return parser.parse_args()


def _write_files(folder: Path, files: int, size: int) -> dict[str, list[Path]]:
    """Writes the files; returns those of each transfer syntax."""
    from cxr_isnet.phantoms import PhantomHospital
    from cxr_isnet.phantoms.dicom import write_dicom
    from cxr_isnet.phantoms.hospitals import BITS
    from cxr_isnet.phantoms.writer import draw_patient

    hospital = PhantomHospital("Alder")
    images = [draw_patient(hospital, number, ill=False, seed=0, size=size)[1:] for number in range(PHANTOMS)]
    groups: dict[str, list[Path]] = {}
    for number in range(files // len(SYNTAXES) * len(SYNTAXES)):
        name, syntax = list(SYNTAXES.items())[number % len(SYNTAXES)]
        path = folder / f"{name.replace(' ', '_')}_{number:05d}.dcm"
        path.parent.mkdir(exist_ok=True)
        pixels, record = images[number % PHANTOMS]
        noise = np.random.default_rng(number).normal(0, 6, pixels.shape)
        write_dicom(path, np.clip(pixels + noise, 0, 2**BITS - 1).astype(np.uint16), record, BITS)
        if syntax != uid.ExplicitVRLittleEndian:
            transcode(path, syntax)
        groups.setdefault(name, []).append(path)
    return groups


def _bare_loop(paths: list[Path]) -> float:
    start = time.perf_counter()
    for path in paths:
        _ = pydicom.dcmread(path).pixel_array
    return time.perf_counter() - start


def _first_decoder(syntax: uid.UID) -> str:
    """The plugin that `pixel_array` tries first; intake's own decoders are not among pydicom's."""
    return next(iter(get_decoder(syntax)._available), "none needed")


def _ratios(rounds: dict[str, list[float]], summary: Any) -> dict[str, Any]:
    bare = rounds["bare"]
    return {
        kind.value: summary([rate / base for rate, base in zip(rounds[kind.value], bare, strict=True)])
        for kind in ImageFormat
    }


def _in_process(root: Path, work: Path, kind: ImageFormat, workers: int) -> dict[str, float]:
    """Seconds and peak megabytes of an intake in a process of its own, into a new folder."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(root, work, kind, workers, sender))
    process.start()
    sender.close()
    found: dict[str, float] = receiver.recv()
    process.join()
    return found


def _measure(root: Path, work: Path, kind: ImageFormat, workers: int, sender: Any) -> None:
    output = Path(tempfile.mkdtemp(dir=work)) / "out"
    start = time.perf_counter()
    before = _cpu_seconds()
    intake(IntakeConfig(str(root), str(output), format=kind, workers=workers))
    seconds = time.perf_counter() - start
    cpu_seconds = _cpu_seconds() - before
    shutil.rmtree(output.parent)
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    sender.send({"seconds": seconds, "cpu_seconds": cpu_seconds, "main": _peak_of_this_process(), "worker": worker})


def _cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _peak_of_this_process() -> float:
    """Peak megabytes, from /proc: getrusage includes the process that this one was started from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _memory(work: Path, groups: dict[str, list[Path]], workers: int) -> dict[str, dict[str, float]]:
    """Peak megabytes over two files of each syntax, and over all."""
    few = work / "few"
    few.mkdir()
    for path in (path for paths in groups.values() for path in paths[:2]):
        (few / path.name).hardlink_to(path)
    peaks = {}
    for name, root in (("few_files", few), ("all_files", work / "files")):
        found = _in_process(root, work, ImageFormat.PNG, workers)
        peaks[name] = {part: round(found[part], 1) for part in ("main", "worker")}
    return peaks


if __name__ == "__main__":
    main()
