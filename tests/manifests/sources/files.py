"""Writing the small files of which miniature data sets are made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian


def picture(path: Path, *, size: tuple[int, int] = (6, 4), grey: int | np.ndarray = 90) -> Path:
    """A grey picture of `size` (columns, rows)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), dtype=np.uint8) + np.asarray(grey, dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def dicom(path: Path, **elements: Any) -> Path:
    """A DICOM header without pixels: a female PA radiograph of 41 years by default; None removes a tag."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = "2.25.1"
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    standard = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": "2.25.1",
        "PatientID": "Name^Of^A^Person",
        "PatientSex": "F",
        "PatientAge": "041Y",
        "ViewPosition": "PA",
        "Rows": 4,
        "Columns": 6,
    }
    for keyword, value in (standard | elements).items():
        if value is not None:
            setattr(file, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


def table(path: Path, rows: Sequence[Mapping[str, object]], separator: str = ",") -> Path:
    """A table whose columns are those of the first row; cells with the separator are quoted."""

    def line(cells: Sequence[object]) -> str:
        return separator.join(f'"{cell}"' if separator in str(cell) else str(cell) for cell in cells)

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [line(list(rows[0])), *(line([row[name] for name in rows[0]]) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
