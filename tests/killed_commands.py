"""The long commands on inputs that take them seconds, for tests that kill, starve and race them."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from cxr_isnet.data import ImageConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.networks.lung_unet import SegmenterConfig
from cxr_isnet.phantoms import PhantomHospital, write_hospital
from cxr_isnet.segmentation import read_splits, train_segmenter
from cxr_isnet.segmentation.training import SegmentTrainConfig
from cxr_isnet.tracking import TrackingConfig, open_store
from cxr_isnet.training import TrainConfig, train
from cxr_isnet.training.config import DataConfig
from tests.imaging.chest_files import BROKEN, write_chest

CLASSES = ["normal", "tuberculosis"]
SITES = ("Alder", "Birch", "Cedar")
STORE = "mlflow.db"


@dataclass(frozen=True)
class Case:
    """A long command.

    Attributes:
        arguments: of a call, from the folder of inputs and the output.
        results: files below the output that must be the same whatever happened, a pattern each; but for
            the id of the MLflow run.
        logs: whether it logs to MLflow.
        store: where to; "" for the database beside the output.
    """

    arguments: Callable[[Path, Path], list[str]]
    results: tuple[str, ...]
    logs: bool = True
    store: str = ""

    def command(self, inputs: Path, out: Path) -> list[str]:
        """The call; with `--resume true` where an unfinished run says that it would go on so."""
        words = [sys.executable, "-m", "cxr_isnet", *self.arguments(inputs, out)]
        if self.logs:
            words.append(f"--tracking.uri={self.store or f'sqlite:///{out.parent / STORE}'}")
        resumes = self.arguments(inputs, out)[0] in ("train", "leave-one-site-out") or "train" in words
        return [*words, "--resume=true"] if resumes and (out / "config.yaml").is_file() else words

    def start(self, inputs: Path, out: Path) -> subprocess.Popen[str]:
        """Begins a call in a process group of its own."""
        if self.logs and not self.store and not (out.parent / STORE).exists():
            shutil.copy(inputs / STORE, out.parent)
        return subprocess.Popen(
            self.command(inputs, out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def finish(self, inputs: Path, out: Path) -> None:
        """Runs a call to its end."""
        process = self.start(inputs, out)
        _, shown = process.communicate(timeout=1200)
        assert process.returncode == 0, shown

    def found(self, out: Path) -> dict[str, object]:
        """The results by their paths below the output."""
        files = [path for pattern in self.results for path in sorted(out.glob(pattern))]
        return {path.relative_to(out).as_posix(): _content(path) for path in files}


CASES = {
    "intake": Case(
        lambda inputs, out: ["intake", f"{inputs}/root", "-o", f"{out}", "--key_file", f"{inputs}/key", "--workers=2"],
        ("manifest.csv", "provenance.csv", "quarantine.csv", "images/*/*.png"),
        logs=False,
    ),
    "segment train": Case(
        lambda inputs, out: ["segment", "train", f"--config={inputs}/segment.yaml", f"--output={out}"],
        ("history.csv", "best.pt", "*/overlaps.csv", "*/overlaps.json"),
    ),
    "segment predict": Case(
        lambda inputs, out: [
            *("segment", "predict", f"--model={inputs}/segmenter/best.pt", "--device=cpu", "-o", f"{out}"),
            f'--manifest=["{inputs}/unmasked/manifest.csv"]',
        ],
        ("manifest.csv", "quality.csv", "flagged.csv", "masks/*.png", "overlays/*.png", "accepted.png"),
        logs=False,
    ),
    "train": Case(
        lambda inputs, out: ["train", f"--config={inputs}/experiment.yaml", f"--output={out}"],
        ("history.csv", "best.pt", "*/clean/predictions.csv", "*/clean/metrics.csv", "*/clean/report.json"),
    ),
    "predict": Case(
        lambda inputs, out: [
            *("predict", f"{inputs}/trained/best.pt", f"{inputs}/root/[0-3]/*", "-o", f"{out}/table.csv"),
            *("--batch_size=64", "--device=cpu"),
        ],
        ("table.csv",),
        logs=False,
    ),
    "evaluate": Case(
        lambda inputs, out: ["evaluate", f"--predictions={inputs}/predictions.csv", "-o", f"{out}"],
        ("metrics.csv", "report.json", "report.html", "model_card.md"),
    ),
    "evaluate-model": Case(
        lambda inputs, out: [
            *("evaluate-model", f"--model={inputs}/trained/best.pt", "--resamples=20", "-o", f"{out}"),
            *("--device=cpu", f'--manifest=["{inputs}/Cedar/manifest.csv"]'),
        ],
        ("*/predictions.csv", "clean/metrics.csv", "clean/report.json", "clean/report.html"),
    ),
    "audit": Case(
        lambda inputs, out: [
            *("audit", f"{inputs}/trained/best.pt", f"{inputs}/Birch/manifest.csv", f"{inputs}/Cedar/manifest.csv"),
            *("--resamples=20", "-o", f"{out}", "--device=cpu", "--training=[]"),
        ],
        ("audit.json", "audit.html"),
    ),
    "leave-one-site-out": Case(
        lambda inputs, out: [
            *("leave-one-site-out", f"--experiment={inputs}/experiment.yaml", "--resamples=20", "-o", f"{out}")
        ],
        ("predictions.csv", "metrics.csv", "report.json", "folds/*/training/best.pt", "folds/*/*.csv"),
    ),
    "compare": Case(
        lambda inputs, out: [
            *("compare", f"--experiment={inputs}/experiment.yaml", "--resamples=20", "-o", f"{out}", "--seeds=[0]"),
            *('--methods=["cross_entropy","rrr"]', "--reference=rrr"),
        ],
        ("trainings/*/*/best.pt", "trainings/*/*/history.csv", "trainings/*/*/external/clean/predictions.csv"),
    ),
}


def write_inputs(folder: Path) -> None:
    """What the commands read; not to be changed."""
    for number in range(200):
        write_chest(folder / f"root/{number // 50}/{number}", number)
    for name, (content, _) in BROKEN.items():
        (folder / "root" / name).write_bytes(content)
    (folder / "key").write_text("a key that all runs share")
    manifests = [
        str(write_hospital(folder / site, PhantomHospital(site), patients=8, seed=seed, size=64))
        for seed, site in enumerate(SITES)
    ]
    _write_unmasked(folder, manifests)
    _write_trainings(folder, manifests)
    _write_predictions(folder / "predictions.csv")
    open_store(f"sqlite:///{folder / STORE}").search_experiments()  # makes its tables, which takes seconds


def _write_unmasked(folder: Path, manifests: list[str]) -> None:
    table = pd.concat([pd.read_csv(path, dtype=str).assign(folder=Path(path).parent) for path in manifests])
    table["image"] = [str(parent / image) for parent, image in zip(table["folder"], table["image"], strict=True)]
    (folder / "unmasked").mkdir()
    table.drop(columns="folder").assign(mask="").to_csv(folder / "unmasked/manifest.csv", index=False)


def _write_trainings(folder: Path, manifests: list[str]) -> None:
    off = TrackingConfig(enabled=False)
    common = {"epochs": 2, "batch_size": 4, "resamples": 20, "device": "cpu"}
    data = {"training": manifests[:2], "external": manifests[2:], "classes": CLASSES, "validation_fraction": 0.34}
    settings = {
        **common,
        "data": {**data, "image": {"size": 32}},
        "output": "not looked at",
        "method": "cross_entropy",
        "network": {"name": "densenet_tiny"},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(settings))
    segment = {
        **common,
        "training": manifests[:2],
        "external": manifests[2:],
        "validation_fraction": 0.34,
        "image": {"size": 32},
        "network": {"channels": [4, 8]},
        "output": "not looked at",
    }
    (folder / "segment.yaml").write_text(yaml.safe_dump(segment))
    chosen = DataConfig(training=manifests[:2], classes=CLASSES, image=ImageConfig(32), validation_fraction=0.34)
    train(
        TrainConfig(
            chosen, str(folder / "trained"), "cross_entropy", network=NetworkConfig("densenet_tiny"), epochs=1,
            batch_size=4, resamples=20, device=Device.CPU, tracking=off,
        )
    )  # fmt: skip
    config = SegmentTrainConfig(
        manifests[:2], str(folder / "segmenter"), image=ImageConfig(32), network=SegmenterConfig((4, 8)), epochs=1,
        batch_size=4, validation_fraction=0.34, device=Device.CPU, resamples=20, tracking=off,
    )  # fmt: skip
    train_segmenter(config, read_splits(config.training, (), config.validation_fraction, config.seed))


def _write_predictions(path: Path) -> None:
    """Of 300 images of three hospitals, by a fixed rule."""
    rows = []
    for number in range(300):
        label, noise = number % 2, (number * 7919 % 101) / 101
        ill = round(0.7 * noise + 0.3 * label, 4)
        rows.append([f"{number}.png", f"p{number // 2}", SITES[number % 3], CLASSES[label], 1 - ill, ill])
    columns = ["path", "patient_id", "site", "label", *(f"probability_{name}" for name in CLASSES)]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


def runs(store: Path) -> Counter[tuple[object, ...]]:
    """The finished runs of a store: name, and how many numbers each metric has at each step."""
    found: Counter[tuple[object, ...]] = Counter()
    with closing(sqlite3.connect(store)) as database:
        for run, name in database.execute("SELECT run_uuid, name FROM runs WHERE status = 'FINISHED'"):
            numbers = database.execute(
                "SELECT key, step, count(*) FROM metrics WHERE run_uuid = ? GROUP BY key, step ORDER BY key, step",
                (run,),
            )
            found[(name, tuple(numbers))] += 1
    return found


def _content(path: Path) -> object:
    if path.suffix == ".pt":  # the name of the file as it was written stands before every entry
        with zipfile.ZipFile(path) as archive:
            entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        return {name: content for name, content in entries.items() if "serialization_id" not in name}
    if path.suffix == ".json":
        return re.sub(r"\b[0-9a-f]{32}\b", "", path.read_text(encoding="utf-8"))
    if path.suffix != ".csv":
        return path.read_bytes()
    with path.open(newline="", encoding="utf-8") as stream:
        return [[value for name, value in row.items() if name != "model_uri"] for row in csv.DictReader(stream)]
