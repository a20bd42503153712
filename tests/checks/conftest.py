"""Phantom X-rays and tables that a test may spoil."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.checks import ManifestScan, scan_manifests
from cxr_isnet.phantoms import PhantomHospital
from cxr_isnet.phantoms.writer import draw_patient

SIDE = 160

ScanOf = Callable[..., ManifestScan]


def save(path: Path, picture: np.ndarray, **options: int) -> Path:
    """A picture in [0, 1] as a file of 8-bit grey."""
    Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)).save(path, **options)
    return path


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A picture squeezed to 128 x 128, grey values as they are."""
    return np.asarray(Image.fromarray(picture.astype(np.float32)).resize((128, 128), Image.Resampling.BOX))


@pytest.fixture(scope="session")
def chests() -> list[np.ndarray]:
    """Ten phantoms of one hospital, (SIDE, SIDE) in [0, 1]; not to be changed."""
    hospital = PhantomHospital("Alder")
    return [draw_patient(hospital, n, ill=bool(n % 2), seed=3, size=SIDE)[1] / 4095 for n in range(10)]


@pytest.fixture(scope="session")
def lungs() -> list[np.ndarray]:
    """The lungs of the first two phantoms, as booleans; not to be changed."""
    return [
        np.asarray(draw_patient(PhantomHospital("Alder"), n, ill=bool(n % 2), seed=3, size=SIDE)[0].lungs, dtype=bool)
        for n in range(2)
    ]


@pytest.fixture
def hospital(tmp_path: Path, chests: list[np.ndarray]) -> pd.DataFrame:
    """Six phantoms as PNG files, whose table a test may spoil before `scan_of` writes and reads it."""
    for number, chest in enumerate(chests[:6]):
        save(tmp_path / f"{number}.png", chest)
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(6)],
            "mask": "",
            "label": ["normal", "ill"] * 3,
            "patient_id": [f"P{number}" for number in range(6)],
            "site": "Alder",
            "split": "",
        }
    )


@pytest.fixture
def scan_of(tmp_path: Path) -> ScanOf:
    """Writes tables and looks at them: `scan_of(first, second)`."""

    def scan(*tables: pd.DataFrame) -> ManifestScan:
        paths = []
        for number, table in enumerate(tables):
            path = tmp_path / f"table{number}.csv"
            table.to_csv(path, index=False)
            paths.append(str(path))
        return scan_manifests(paths, workers=1)

    return scan
