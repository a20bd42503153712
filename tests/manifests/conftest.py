"""A small hospital on disk, whose table a test may spoil."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

WriteTable = Callable[[pd.DataFrame], Path]


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    """Four images of three patients; the files exist, their content is of no concern here."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "a_mask.png").write_bytes(b"mask")
    return pd.DataFrame(
        {
            "image": ["a.png", "b.png", "c.png", "d.png"],
            "mask": ["a_mask.png", "", "", ""],
            "label": ["normal", "ill", "normal", "ill"],
            "patient_id": ["01", "01", "02", "03"],
            "site": "Alder",
        }
    )


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Writes rows as `table.csv` and gives its path."""

    def write(frame: pd.DataFrame) -> Path:
        path = tmp_path / "table.csv"
        frame.to_csv(path, index=False)
        return path

    return write
