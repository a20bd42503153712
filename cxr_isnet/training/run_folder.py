"""The folder of a run: empty at the start, whole after every epoch, and known again when the run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import yaml

from cxr_isnet.choices import as_plain
from cxr_isnet.deployment.checkpoint import load_state, save_state
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.report import write_json
from cxr_isnet.files import replacing
from cxr_isnet.manifests import digest

_NOT_PART_OF_THE_RUN = ("output", "resume", "register", "tracking", "device")


class RunSettings(Protocol):
    """What the folder asks of a run's config, which is a dataclass."""

    @property
    def output(self) -> str: ...

    @property
    def resume(self) -> bool: ...

    @property
    def training(self) -> list[str]: ...


class Keepable(Protocol):
    """What a training makes, e.g. a classifier."""

    def save(self, path: Path) -> None:
        """Writes it to one file, whole or not at all."""


@dataclass(frozen=True)
class RunFolder:
    """Where a training writes.

    Files: `config.yaml`, `manifests.json` (digests of what is trained on), `last.pt` (state after the last whole
    epoch), `best.pt` (the network of the epoch with the lowest validation loss), `history.csv` (loss terms), `run.json`
    (MLflow run), `metrics.json` and the evaluation's folders.
    """

    path: Path

    @classmethod
    def open(cls, config: RunSettings) -> RunFolder:
        """Finds the folder free, or takes up the training in it; writes nothing.

        Raises:
            InputError: If it is not empty and `resume` is off; or it is to be resumed with another config or other
                tables, or cannot be.
        """
        folder = cls(Path(config.output))
        if folder.path.exists() and not folder.path.is_dir():
            raise InputError(f"output '{folder.path}' is a file: name a folder")
        if folder.path.is_dir() and any(folder.path.iterdir()):
            if not config.resume:
                unfinished = folder.config_file.is_file() and not folder.metrics_file.is_file()
                hint = "add --resume true to go on with the unfinished training in it, or " if unfinished else ""
                raise InputError(f"output '{folder.path}' is not empty: {hint}name another folder")
            folder._check_same(config)
            return folder
        if config.resume:
            raise InputError(
                f"output '{folder.path}' holds no training to resume: leave out --resume, or correct the folder"
            )
        return folder

    def begin(self, config: RunSettings, run_id: str, uri: str) -> None:
        """Makes the folder with the config and the manifests' digests, unless a training is taken up; notes the run."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config_file.is_file():
            with replacing(self.config_file) as partial:
                partial.write_text(yaml.safe_dump(as_plain(config), sort_keys=False))
        if not self.manifests_file.is_file():
            write_json(self.manifests_file, {"sha256": {manifest: digest(manifest) for manifest in config.training}})
        if run_id:
            write_json(self.path / "run.json", {"run_id": run_id, "tracking_uri": uri})

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifests_file(self) -> Path:
        return self.path / "manifests.json"

    @property
    def best_file(self) -> Path:
        return self.path / "best.pt"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def history_file(self) -> Path:
        return self.path / "history.csv"

    @property
    def state_file(self) -> Path:
        return self.path / "last.pt"

    def load_state(self) -> dict[str, Any] | None:
        """State after the last whole epoch; None if there was none.

        Raises:
            InputError: If `last.pt` is damaged, or not the state of a training.
        """
        if not self.state_file.is_file():
            return None
        state = load_state(self.state_file)
        if "fitting" not in state:
            raise InputError(
                f"{self.state_file}: not the state of a training: restore the file, or name another folder"
            )
        return state

    def save(self, state: Mapping[str, Any], history: list[dict[str, Any]], best: Keepable | None) -> None:
        """Keeps an epoch. The network first: a kill in between repeats the epoch, and finds the same best again."""
        if best is not None:
            best.save(self.best_file)
        with replacing(self.history_file) as partial:
            pd.DataFrame(history).to_csv(partial, index=False)
        save_state(self.state_file, state)

    def run_id(self) -> str | None:
        """MLflow run of this training, if it has one."""
        file = self.path / "run.json"
        return json.loads(file.read_text())["run_id"] if file.is_file() else None

    def _check_same(self, config: RunSettings) -> None:
        if not self.config_file.is_file():
            raise InputError(f"output '{self.path}' holds files, but no training to resume: name another folder")
        before, now = yaml.safe_load(self.config_file.read_text()), as_plain(config)
        differing = _differences(before, now)
        if differing:
            key, old, new = differing[0]
            raise InputError(
                f"output '{self.path}' holds a training with {key}={old!r}, not {new!r}: a training goes on with its "
                "own settings; resume with the same ones, or name another folder"
            )
        if self.manifests_file.is_file():
            for manifest, before in json.loads(self.manifests_file.read_text())["sha256"].items():
                if digest(manifest) != before:
                    raise InputError(
                        f"{manifest}: changed since the training in output '{self.path}' began: a training goes on "
                        "with its own images; restore the table, or name another folder"
                    )


def _differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for name in {**before, **now}:
            if key or name not in _NOT_PART_OF_THE_RUN:
                found += _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if before == now else [(key, before, now)]
