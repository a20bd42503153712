"""Writing the small files of which miniature data sets are made."""

import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit

SIZE = (48, 40)
"""Columns and rows of X-rays."""


def grey_values(name: str, shape: tuple[int, int] = SIZE[::-1]) -> np.ndarray:
    """An X-ray in [0, 1]: a dense middle between two lungs, and noise that differs from name to name."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    rows, columns = rows / shape[0], columns / shape[1]
    lungs = np.exp(-((np.abs(columns - 0.5) - 0.23) ** 2) / 0.012)
    chest = 0.75 - 0.5 * lungs * (np.abs(rows - 0.42) < 0.3) - 0.5 * ((rows < 0.12) & (np.abs(columns - 0.5) > 0.35))
    noise = np.random.default_rng(zlib.crc32(name.encode())).uniform(0, 0.2, shape)
    return np.clip(chest + noise, 0, 1)


def xray(path: Path, *, size: tuple[int, int] = SIZE) -> Path:
    """An X-ray of `size` (columns, rows) as 8-bit grey."""
    return picture(path, size=size, grey=np.rint(255 * grey_values(path.name, size[::-1])))


def picture(path: Path, *, size: tuple[int, int] = (6, 4), grey: int | np.ndarray = 90) -> Path:
    """A grey picture of `size` (columns, rows)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), dtype=np.uint8) + np.asarray(grey, dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def dicom(path: Path, *, jpeg: bool = False, **elements: Any) -> Path:
    """A DICOM file of 12 bits, or 8 as JPEG: a female PA chest of 41 years by default; None removes a tag."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = "2.25.1"
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    standard = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": "2.25.1",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "PatientID": "Name^Of^A^Person",
        "PatientSex": "F",
        "PatientAge": "041Y",
        "ViewPosition": "PA",
        "Rows": SIZE[1],
        "Columns": SIZE[0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 if jpeg else 16,
        "BitsStored": 8 if jpeg else 12,
        "HighBit": 7 if jpeg else 11,
        "PixelRepresentation": 0,
    }
    for keyword, value in (standard | elements).items():
        if value is not None:
            setattr(file, keyword, value)
    if "Rows" in file and "Columns" in file:
        grey = grey_values(path.name, (file.Rows, file.Columns))
        grey = 1 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey
        if jpeg:
            stream = io.BytesIO()
            Image.fromarray(np.rint(255 * grey).astype(np.uint8)).save(stream, "JPEG")
            file.PixelData = encapsulate([stream.getvalue()])
            file["PixelData"].VR = "OB"
        else:
            file.PixelData = np.rint(4095 * grey).astype("<u2").tobytes()
            file["PixelData"].VR = "OW"
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
