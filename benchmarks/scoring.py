"""Images per second of `cxr-isnet predict` compared with a bare loop over `mlflow.pyfunc.load_model(...).predict`.

    python benchmarks/scoring.py --files 64 --size 1024 --workers 0 1 2 --json result.json

Phantom X-rays (DICOM, JPEG lossless; needs the extra `dicom`) are read from a warm cache by the bare loop, a file at a
time, and by the scorer of `predict` with each number of reading processes, whose decoding overlaps with the network.
Its time includes the start of its processes, not the loading of the model. Ratios above 1: `predict` is faster. Medians
over the rounds. The network is untrained, of the size of a real one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import mlflow
import torch
from pydicom.uid import JPEGLosslessSV1
from transcoding import transcode

from cxr_isnet.data import ImageConfig
from cxr_isnet.deployment import ScoringConfig, local_scorer, parts_of, pyfunc_path, score_archive
from cxr_isnet.inference import Classifier, files_frame
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.phantoms import PhantomHospital, write_hospital

CLASSES = ("normal", "tuberculosis")


def main() -> None:
    """Measures the bare loop and the scorer in turn, and prints their rates."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        paths = _write_files(work, args.files, args.size)
        classifier = _classifier(args.network, args.input)
        classifier.save(work / "best.pt")
        mlflow.pyfunc.save_model(
            work / "model", python_model=str(pyfunc_path()), artifacts={"checkpoint": str(work / "best.pt")}
        )
        bare = mlflow.pyfunc.load_model(str(work / "model"))
        bare.predict(paths[:2])
        names = [f"predict, {workers} workers" for workers in args.workers]
        rounds: dict[str, list[float]] = {name: [] for name in ("bare", *names)}
        for _ in range(args.rounds):
            begun = time.perf_counter()
            for path in paths:
                bare.predict([path])
            rounds["bare"].append(len(paths) / (time.perf_counter() - begun))
            for name, workers in zip(names, args.workers, strict=True):
                scorer = local_scorer(classifier, ScoringConfig(batch_size=args.batch, workers=workers))
                with parts_of(work / "p.parquet") as parts:
                    begun = time.perf_counter()
                    score_archive(files_frame(paths), parts, scorer, {}, batch_size=args.batch)
                    rounds[name].append(len(paths) / (time.perf_counter() - begun))
    rates = {name: statistics.median(values) for name, values in rounds.items()}
    result = {
        "images_per_second": rates,
        "ratio_to_bare_loop": {name: rates[name] / rates["bare"] for name in names},
        "settings": vars(args) | {"json": None},
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result, indent=2))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def _classifier(network: str, size: int) -> Classifier:
    torch.manual_seed(0)
    config = NetworkConfig(network)
    return Classifier(build_network(config, 2, size).eval(), config, CLASSES, ImageConfig(size), "cross_entropy")


def _write_files(work: Path, files: int, size: int) -> list[str]:
    manifest = write_hospital(work / "hospital", PhantomHospital("Alder"), patients=files, seed=1, size=size)
    paths = sorted((manifest.parent / "images").iterdir())
    for path in paths:
        transcode(path, JPEGLosslessSV1)
    return [str(path) for path in paths]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of the files")
    parser.add_argument("--input", type=int, default=224, help="rows and columns of the network's input")
    parser.add_argument("--network", default="densenet121")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
