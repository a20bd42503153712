"""DICOM radiographs made in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

MakeDicom = Callable[..., Path]

STEPS = np.arange(0, 4096, 16, dtype=np.uint16).reshape(8, 32)
"""Pixels of the files: every sixteenth value of 12 bits, 8 rows x 32 columns."""


@pytest.fixture
def make_dicom(tmp_path: Path) -> MakeDicom:
    """Writes a 12-bit CR of `STEPS`; keywords replace elements, None removes them, a `DataElement` has its own VR."""

    def make(**elements: Any) -> Path:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        meta.MediaStorageSOPInstanceUID = "2.25.1"
        file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        standard: dict[str, Any] = {
            "SOPClassUID": ComputedRadiographyImageStorage,
            "SOPInstanceUID": "2.25.1",
            "Modality": "CR",
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": 8,
            "Columns": 32,
            "SamplesPerPixel": 1,
            "BitsAllocated": 16,
            "BitsStored": 12,
            "HighBit": 11,
            "PixelRepresentation": 0,
            "PixelData": STEPS.tobytes(),
        }
        for keyword, value in (standard | elements).items():
            if isinstance(value, DataElement):
                file.add(value)
            elif value is not None:
                setattr(file, keyword, value)
        path = tmp_path / "image.dcm"
        file.save_as(path, enforce_file_format=True)
        return path

    return make
