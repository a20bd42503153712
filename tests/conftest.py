"""Fixtures that several rooms' tests share."""

import os
from pathlib import Path

import pytest

from cxr_isnet.data import PhantomHospital, write_hospital

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
