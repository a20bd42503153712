"""Fixtures that several rooms' tests share."""

import os
from pathlib import Path

import pandas as pd
import pytest

from cxr_isnet.data import ImageConfig, PhantomHospital, write_hospital
from cxr_isnet.devices import Device
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train
from cxr_isnet.training.config import DataConfig

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data_folder() -> Path:
    """Folder of real X-rays; the test is skipped where there is none."""
    folder = PROJECT / os.environ.get("CXR_ISNET_DATA", "../shared/data")
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"no real X-rays in {folder}: set CXR_ISNET_DATA")
    return folder.resolve()


@pytest.fixture(scope="session")
def phantom_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of a hospital of twelve phantoms, 64 x 64 pixels; not to be changed."""
    hospital = PhantomHospital("Alder", monochrome1=True)
    return write_hospital(tmp_path_factory.mktemp("alder"), hospital, patients=12, seed=1, size=64)


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
        method="densenet121",
        network=NetworkConfig("densenet_tiny"),
        epochs=1,
        batch_size=4,
        device=Device.CPU,
        resamples=20,
        tracking=TrackingConfig(enabled=False),
    )
    train(config)
    return Path(config.output)
