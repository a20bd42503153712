"""Fixtures that the tests of several packages share."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import sqlalchemy
import torch
from mlflow.store.db import utils as db_utils

from cxr_isnet.audit.probes import imposed_changes
from cxr_isnet.data import ImageConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.sources import find_source
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.phantoms import PhantomHospital, write_hospital
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, experiment, train
from cxr_isnet.training.config import DataConfig
from tests.checkpoints import Killed

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
"""Ray's clusters of the tests on loopback, as on desktops; Ray reads it once, when it is first imported."""

CLASSES = ["normal", "tuberculosis"]
PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data_folder() -> Path:
    """Folder of real X-rays; the test is skipped where there is none."""
    folder = PROJECT / os.environ.get("CXR_ISNET_DATA", "../shared/data")
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"no real X-rays in {folder}: set CXR_ISNET_DATA")
    return folder.resolve()


@pytest.fixture(scope="session")
def published_sets_folder(real_data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder of the real X-rays, with a manifest for each set as `cxr-isnet manifest build` writes it."""
    folder = tmp_path_factory.mktemp("published_sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_ISNET_DATA", str(real_data_folder))
        for mapping in sorted((PROJECT / "tests" / "realdata").glob("*.yaml")):
            build_manifest(find_source("table"), mapping, folder / mapping.stem / "manifest.csv")
    return folder


@pytest.fixture
def published_sets(published_sets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder that recipes read, of real X-rays."""
    monkeypatch.setenv("CXR_ISNET_DATA", str(published_sets_folder))
    return published_sets_folder


@pytest.fixture(scope="session")
def phantom_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of a hospital of twelve phantoms, 64 x 64 pixels, of some without age or sex; not to be changed."""
    hospital = PhantomHospital("Alder", monochrome1=True)
    manifest = write_hospital(tmp_path_factory.mktemp("alder"), hospital, patients=12, seed=1, size=64)
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    table.loc[::3, ["age", "sex"]] = ""
    table.to_csv(manifest, index=False)
    return manifest


@pytest.fixture
def phantom_table(phantom_manifest: Path) -> pd.DataFrame:
    """Rows of `phantom_manifest` with full paths, to be changed and written elsewhere."""
    table = pd.read_csv(phantom_manifest, dtype=str, keep_default_na=False)
    for column in ("image", "mask"):
        table[column] = [str(phantom_manifest.parent / value) for value in table[column]]
    return table


@pytest.fixture(scope="session")
def external_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of another hospital, of eight phantoms; not to be changed."""
    hospital = PhantomHospital("Birch", gamma=1.3)
    return write_hospital(tmp_path_factory.mktemp("birch"), hospital, patients=8, seed=2, size=64)


@pytest.fixture(scope="session")
def trained(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished training of the plain classifier on phantoms of 32 x 32 pixels; not to be changed."""
    config = TrainConfig(
        DataConfig(training=[str(phantom_manifest)], classes=["normal", "tuberculosis"], image=ImageConfig(32)),
        str(tmp_path_factory.mktemp("trained") / "run"),
        method="cross_entropy",
        network=NetworkConfig("densenet_tiny"),
        epochs=1,
        batch_size=4,
        device=Device.CPU,
        resamples=20,
        tracking=TrackingConfig(enabled=False),
    )
    train(config)
    return Path(config.output)


@pytest.fixture(scope="session", autouse=True)
def new_stores_of_mlflow_are_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of one that MLflow has made: it takes a second of migrations for each new SQLite file."""
    make, made = db_utils._initialize_tables, tmp_path_factory.mktemp("mlflow") / "new.db"

    def copied(engine: sqlalchemy.Engine) -> None:
        target = engine.url.database
        if engine.dialect.name != "sqlite" or not target or sqlalchemy.inspect(engine).get_table_names():
            make(engine)
            return
        if not made.exists():
            make(sqlalchemy.create_engine(f"sqlite:///{made}"))
        with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(target)) as new:
            source.backup(new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db_utils, "_initialize_tables", copied)
        yield


@pytest.fixture(autouse=True)
def logging_is_left_as_it_was() -> Iterator[None]:
    """Whatever level a command set for its process."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture(autouse=True)
def no_store_of_mlflow_is_left_set() -> Iterator[None]:
    """MLflow's global store is none again after each test, whichever test has set it."""
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rank of a distributed training."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def make_config_in(phantom_manifest: Path) -> Callable[..., TrainConfig]:
    """A maker of configs for a folder: no tracking, the plain classifier, two epochs, unless shown otherwise."""

    def make(folder: Path, output: str = "run", *, data: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
        images = {"training": [str(phantom_manifest)], "classes": CLASSES, "image": ImageConfig(size=32)}
        settings = {
            "method": "cross_entropy",
            "network": NetworkConfig("densenet_tiny", dropout=0.2),
            "options": options_by_method({"isnet": {"bound_estimation_epochs": 1}}),
            "epochs": 2,
            "batch_size": 4,
            "resamples": 20,
            "device": Device.CPU,
            "tracking": TrackingConfig(enabled=False),
        }
        chosen = DataConfig(**{**images, "validation_fraction": 0.34, **(data or {})})
        return TrainConfig(chosen, str(folder / output), **{**settings, **changes})

    return make


@pytest.fixture
def make_config(make_config_in: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., TrainConfig]:
    """The same for the folder of the test."""
    return partial(make_config_in, tmp_path)


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Raises when the named function is called for the n-th time, after or before it did its work."""

    def arrange(owner: Any, name: str, call: int, *, before: bool = False) -> None:
        original = getattr(owner, name)
        calls: list[int] = []

        def killing(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if before and len(calls) == call:
                raise Killed
            result = original(*args, **kwargs)
            if len(calls) == call:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, killing)

    return arrange


@pytest.fixture
def unevaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends with the last epoch."""
    monkeypatch.setattr(experiment, "finish", lambda *_: ({}, []))


@pytest.fixture
def phantoms(phantom_manifest: Path) -> pd.DataFrame:
    """The rows of a small phantom hospital."""
    return read_manifest(phantom_manifest)


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two imposed changes instead of a hundred, where the changes are not what is tested."""
    monkeypatch.setattr(imposed_changes, "IMPOSED_CHANGES", imposed_changes.IMPOSED_CHANGES[:2])


@pytest.fixture
def classifier() -> Classifier:
    """Two classes, images of 32 pixels, batch statistics that a few images have moved."""
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny", dropout=0.2)
    network = build_network(config, 2, 32).train()
    with torch.no_grad():
        network(torch.rand(8, 1, 32, 32))
    return Classifier(network.eval(), config, ("normal", "tuberculosis"), ImageConfig(32, equalize=False), "isnet")
