"""The directory of a run: empty at the start, whole after every epoch, and known again when the run is resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cxr_isnet.config import read_yaml
from cxr_isnet.engine.checkpoint import FORMAT, damaged, load_state, save_state
from cxr_isnet.errors import InputError, hide_passwords
from cxr_isnet.files import LOCK_NAME, atomic_write, exclusive, is_empty, remove_partial_files, write_json
from cxr_isnet.manifests import digest
from cxr_isnet.tables import write_table

_RUN = "run.json"
_HOW_READ = ("workers", "cache", "data.workers", "data.cache", "data.cache_folder")
_NOT_PART_OF_THE_RUN = ("output", "resume", "register", "tracking", "device", "epochs", *_HOW_READ)
"""What may differ when a run is resumed; of `epochs`, upwards only."""


@dataclass(frozen=True)
class RunDirectory:
    """Where a training writes.

    Files: `config.yaml`, `manifests.json` (digests of what is trained on), `last.pt` (state after the last whole
    epoch), `best.pt` (the network of the epoch with the lowest validation loss), `history.csv` (loss terms), `run.json`
    (MLflow run), `metrics.json` and the evaluation's folders.
    """

    path: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other process from training into the directory during the block, by a lock file beside it.

        A process that is killed holds nothing any more. Of a distributed training the first process holds it for all.

        Raises:
            InputError: Another process holds it.
        """
        if os.environ.get("RANK", "0") != "0":
            yield
            return
        path = self.path.absolute()
        made = [parent for parent in path.parents if not parent.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"output '{self.path}': {error.strerror}. Name a folder that can be written to") from error
        with exclusive(path, beside=True):
            try:
                yield
            finally:
                if not path.exists():  # refused before anything was written
                    path.with_name(f".{path.name}{LOCK_NAME}").unlink(missing_ok=True)
                    with suppress(OSError):  # something else is in it by now
                        for parent in made:
                            parent.rmdir()

    @classmethod
    def open(cls, output: str, settings: Mapping[str, Any], manifests: Sequence[str], *, resume: bool) -> RunDirectory:
        """Finds the directory free, or the training in it to be resumed; writes nothing.

        Args:
            output: The directory.
            settings: All settings of the run as plain values.
            manifests: Tables that it is trained on.
            resume: Goes on with the training in it.

        Raises:
            InputError: If it is not empty and `resume` is off; or it is to be resumed with another config or other
                tables, or cannot be.
        """
        directory = cls(Path(output))
        if directory.path.exists() and not directory.path.is_dir():
            raise InputError(f"output '{directory.path}' is a file: name a folder")
        if directory.path.is_dir() and not is_empty(directory.path):
            if not resume:
                unfinished = directory.config_file.is_file() and not directory.metrics_file.is_file()
                hint = "add --resume true to resume the unfinished training in it, or " if unfinished else ""
                raise InputError(f"output '{directory.path}' is not empty: {hint}name another folder")
            directory._check_same(settings)
            return directory
        if resume:
            raise InputError(
                f"output '{directory.path}' holds no training to resume: leave out --resume, or correct the folder"
            )
        return directory

    def begin(
        self,
        settings: Mapping[str, Any],
        manifests: Sequence[str],
        run_id: str,
        uri: str,
        *,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Makes the directory with settings and the manifests' digests, unless a training is resumed; notes the run.

        A training that is resumed with more epochs is unfinished again. `about`, as versions, becomes a comment.

        Raises:
            InputError: Another command has written to the directory since it was found free, or is about to.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        remove_partial_files(self.path)
        comment = "".join(f"# {key}: {value}\n" for key, value in (about or {}).items())
        if not self.config_file.is_file():
            with exclusive(self.path):  # as commands hold it that fill a folder at their end
                if not is_empty(self.path):
                    raise InputError(f"output '{self.path}' is not empty any more: name another folder")
                self._write_settings(settings, comment)
                (self.path / LOCK_NAME).unlink()  # who has opened it finds the folder full
        elif (kept := self._kept_settings()).get("epochs") != settings.get("epochs"):
            self.metrics_file.unlink(missing_ok=True)
            self._write_settings({**kept, "epochs": settings["epochs"]}, comment)
        if not self.manifests_file.is_file():
            write_json(self.manifests_file, {"sha256": {manifest: digest(manifest) for manifest in manifests}})
        self.note_run(run_id, uri)

    def _write_settings(self, settings: Mapping[str, Any], comment: str) -> None:
        with atomic_write(self.config_file) as partial:
            partial.write_text(comment + hide_passwords(yaml.safe_dump(dict(settings), sort_keys=False)))

    def note_run(self, run_id: str, uri: str) -> None:
        """Writes down the MLflow run that the directory is the output of; nothing where there is none."""
        if run_id:
            write_json(self.path / _RUN, {"run_id": run_id, "tracking_uri": hide_passwords(uri)})

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
            InputError: If `last.pt` is damaged, not the state of a training, or of one of an older version.
        """
        if not self.state_file.is_file():
            return None
        state = load_state(self.state_file)
        if "trainer" not in state:
            raise InputError(
                f"{self.state_file}: not the state of a training: restore the file, or name another folder"
            )
        if state["format"] != FORMAT:
            raise InputError(
                f"{self.state_file}: of a training that an older version began, whose settings may mean something else "
                "now: train anew in another folder"
            )
        return state

    def save(
        self, state: Mapping[str, Any], history: list[dict[str, Any]], save_best: Callable[[Path], None] | None
    ) -> None:
        """Keeps an epoch. The network first: a kill in between repeats the epoch, and finds the same best again."""
        if save_best is not None:
            save_best(self.best_file)
        write_table(pd.DataFrame(history), self.history_file)
        save_state(self.state_file, state)

    def run_id(self) -> str | None:
        """MLflow run of this directory; None if there is none, or the note of it is damaged."""
        try:
            return str(json.loads((self.path / _RUN).read_text(encoding="utf-8"))["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _kept_settings(self) -> dict[str, Any]:
        """The settings that the training was begun with."""
        content = read_yaml(self.config_file, "the settings of a training")
        if not isinstance(content, dict):
            raise InputError(f"{self.config_file}: holds no settings of a training. Restore the file")
        return content

    def _check_same(self, settings: Mapping[str, Any]) -> None:
        if not self.config_file.is_file():
            raise InputError(f"output '{self.path}' holds files, but no training to resume: name another folder")
        before, now = self._kept_settings(), dict(settings)
        differing = _differences(before, now)
        if differing:
            key, old, new = differing[0]
            raise InputError(
                f"output '{self.path}' holds a training with {key}={old!r}, not {new!r}: a training is resumed with "
                "its own settings, but for more epochs; give the same ones, or name another folder"
            )
        with damaged(self.config_file):
            begun_with = int(before.get("epochs", 0))
        if "epochs" in now and now["epochs"] < begun_with:
            raise InputError(
                f"output '{self.path}' holds a training of {begun_with} epochs, not {now['epochs']}: one is "
                "resumed with as many or more, over which the learning rate then falls"
            )
        if self.manifests_file.is_file():
            with damaged(self.manifests_file):
                digests = dict(json.loads(self.manifests_file.read_text(encoding="utf-8"))["sha256"])
            for manifest, begun_on in digests.items():
                if digest(manifest) != begun_on:
                    raise InputError(
                        f"{manifest}: changed since the training in output '{self.path}' began: a training is "
                        "resumed with its own images; restore the table, or name another folder"
                    )


def _differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for name in {**before, **now}:
            path = f"{key}.{name}" if key else name
            if path not in _NOT_PART_OF_THE_RUN:
                found += _differences(before.get(name), now.get(name), path)
        return found
    return [] if before == now else [(key, before, now)]
