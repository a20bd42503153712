"""Predictions of an archive of any size, in parts, here or on Ray; after a kill they go on where they were."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_isnet.config import require_extra
from cxr_isnet.deployment.dicom_results import DicomResults, add_dicom_results
from cxr_isnet.engine import ray_cluster
from cxr_isnet.errors import InputError
from cxr_isnet.files import atomic_write, exclusive, remove_partial_files, unwritable
from cxr_isnet.inference import Classifier, predict_batches, predict_manifest
from cxr_isnet.objectives import Explanation

PART_ROWS = 256
"""Rows that a kill loses at most, rounded to whole batches."""

_SETTINGS = "settings.json"


@dataclass(frozen=True)
class ScoringConfig:
    """How images are predicted; arguments of `predict_manifest`.

    Attributes:
        model_uri: As of `predict_manifest`.
        batch_size: As of `predict_manifest`.
        workers: As of `predict_manifest`.
        explanation: As of `predict_manifest`.
        calibrated: As of `predict_manifest`.
    """

    model_uri: str = ""
    batch_size: int = 16
    workers: int = 0
    explanation: Explanation | None = None
    calibrated: bool = False

    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of `predict_manifest`."""
        return dict(vars(self))


Part = tuple[int, pd.DataFrame]
"""Number of a part, and its rows: of the manifest before, of the predictions table after prediction."""

Scorer = Callable[[list[Part]], Iterator[Part]]
"""Predicts parts, in any order."""


def local_scorer(classifier: Classifier, config: ScoringConfig) -> Scorer:
    """The scorer that predicts in this process, with `config.workers` processes that read ahead."""

    def score(parts: list[Part]) -> Iterator[Part]:
        rows = pd.concat([frame for _, frame in parts], ignore_index=True)
        batches = predict_batches(classifier, rows, **config.arguments())
        for number, frame in parts:
            tables: list[pd.DataFrame] = []
            while sum(map(len, tables)) < len(frame):  # parts are whole batches
                tables.append(next(batches))
            yield number, pd.concat(tables, ignore_index=True)

    return score


def ray_scorer(classifier: Classifier, config: ScoringConfig, address: str) -> Scorer:
    """The scorer that predicts on a Ray cluster, a process for every CPU of it.

    Args:
        classifier: Is sent to the cluster, where this package must be installed and the files must have the same paths.
        config: Each process reads its files itself: `workers` is not looked at.
        address: Of the cluster's head, as `ray://host:10001` or `auto`; `local` starts one on this machine.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    require_extra("ray", "ray", "ray")
    import ray
    from ray.util import ActorPool

    class Predictor:
        def __init__(self, classifier: Classifier) -> None:
            self._classifier = classifier

        def predict(self, part: Part) -> Part:
            number, frame = part
            return number, predict_manifest(self._classifier, frame, **{**config.arguments(), "workers": 0})

    def score(parts: list[Part]) -> Iterator[Part]:
        with ray_cluster(address):
            model = ray.put(classifier)
            count = min(len(parts), max(1, int(ray.cluster_resources().get("CPU", 1))))
            remote = ray.remote(num_cpus=1)(Predictor)
            pool = ActorPool([remote.remote(model) for _ in range(count)])
            yield from pool.map_unordered(lambda actor, part: actor.predict.remote(part), parts)

    return score


def score_archive(
    frame: pd.DataFrame,
    folder: Path,
    scorer: Scorer,
    identity: Mapping[str, object],
    *,
    batch_size: int = 16,
    results: DicomResults | None = None,
    results_folder: Path | None = None,
) -> pd.DataFrame:
    """Predictions table of a frame, in order, a row for each of its rows.

    Called again after a kill with the same arguments, it goes on with what is missing and ends with the same table.

    Args:
        frame: As `predict_manifest` takes it.
        folder: Of the parts that are done, as `parts_of` gives it.
        scorer: Predicts.
        identity: What decides the predictions, besides the frame: parts of another identity are refused.
        batch_size: Parts are multiples of it.
        results: Makes DICOM results of every DICOM file; None for none.
        results_folder: Where to, with `results`; exists.

    Raises:
        InputError: There are parts of another model, other images or other settings.
    """
    _open(folder, {**identity, "batch_size": batch_size, "rows": _digest(frame)})
    rows = max(1, PART_ROWS // batch_size) * batch_size
    starts = range(0, len(frame), rows)
    todo = []
    for number, start in enumerate(starts):
        if _part(folder, number).is_file():
            _deliver(folder, number, results_folder)
        else:
            todo.append((number, frame.iloc[start : start + rows]))
    for number, table in scorer(todo) if todo else ():
        if results is not None:
            table = _with_results(table, results, _staging(folder, number))
        with atomic_write(_part(folder, number)) as partial:
            table.to_parquet(partial, index=False)
        _deliver(folder, number, results_folder)
    parts = [pd.read_parquet(_part(folder, number)) for number in range(len(starts))]
    return pd.concat(parts, ignore_index=True)


@contextmanager
def parts_of(output: Path) -> Iterator[Path]:
    """The folder of a table's parts, no other process's during the block; removed when that succeeds.

    Args:
        output: The table; its folder exists.

    Raises:
        InputError: Another process writes the table, or the folder cannot be written to.
    """
    folder = output.with_name(f".{output.name}.parts")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(output, error) from error
    with exclusive(folder):
        remove_partial_files(folder)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.parquet"


def _staging(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.dicom"


def _open(folder: Path, identity: Mapping[str, object]) -> None:
    settings = folder / _SETTINGS
    text = json.dumps(identity, sort_keys=True, default=str)
    if settings.is_file() and settings.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{folder}: an interrupted prediction of another model, other images or other settings. Finish it as it "
            "was begun, or remove the folder"
        )
    with atomic_write(settings) as partial:
        partial.write_text(text, encoding="utf-8")


def _digest(frame: pd.DataFrame) -> str:
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def _with_results(table: pd.DataFrame, results: DicomResults, staging: Path) -> pd.DataFrame:
    """As `add_dicom_results`, into an empty folder: what a kill left there belongs to no row."""
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    return add_dicom_results(table, results, staging)


def _deliver(folder: Path, number: int, results_folder: Path | None) -> None:
    """Moves the DICOM results of a part that is written to where they belong."""
    staging = _staging(folder, number)
    if results_folder is None or not staging.is_dir():
        return
    for file in staging.iterdir():
        os.replace(file, results_folder / file.name)
    staging.rmdir()
