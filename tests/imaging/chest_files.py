"""DICOM radiographs of nobody, whose identifying tags are all the word that must not be seen again."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

SECRET = "CANARY"
"""In every tag, and in some file names, that could identify the patient."""


def chest_pixels(size: int = 64, seed: int = 0) -> np.ndarray:
    """12-bit values, bright is dense: body on air, two dark lungs, a bright mediastinum and abdomen, noise."""
    y, x = np.mgrid[0:size, 0:size] / size
    picture = np.where(abs(x - 0.5) < 0.2 + 0.45 * y, 0.6, 0.02)
    for side in (0.28, 0.72):
        picture = np.where(((x - side) / 0.16) ** 2 + ((y - 0.45) / 0.3) ** 2 < 1, 0.2, picture)
    picture = np.where((abs(x - 0.5) < 0.08) | (y > 0.8), 0.85, picture)
    noise = np.random.default_rng(seed).normal(0, 0.01, picture.shape)
    return np.clip((picture + noise) * 4095, 0, 4095).astype(np.uint16)


def chest_dataset(number: int = 0, pixels: np.ndarray | None = None, **elements: Any) -> FileDataset:
    """A CR of the chest of patient `number`; keywords replace elements, None removes them."""
    pixels = chest_pixels(seed=number) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = f"2.25.{1000 + number}"
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    standard: dict[str, Any] = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": f"2.25.{1000 + number}",
        "StudyInstanceUID": f"2.25.{2000 + number}",
        "StudyDate": "20200131",
        "Modality": "CR",
        "Manufacturer": "Acme",
        "ManufacturerModelName": "Plate 1",
        "InstitutionName": f"{SECRET} hospital",
        "StudyDescription": f"chest of {SECRET}",
        "ReferringPhysicianName": f"{SECRET}^doctor",
        "AccessionNumber": f"{SECRET}{number}",
        "PatientName": f"{SECRET}^{number}",
        "PatientID": f"{SECRET}-{number}",
        "PatientBirthDate": "19500101",
        "PatientAddress": f"{SECRET} street",
        "PatientComments": SECRET,
        "PatientSex": "F",
        "PatientAge": "070Y",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": pixels.astype("<u2").tobytes(),
    }
    for keyword, value in (standard | elements).items():
        if value is not None:
            setattr(file, keyword, value)
    return file


def chest_bytes(number: int = 0, **elements: Any) -> bytes:
    """The file of `chest_dataset`."""
    stream = BytesIO()
    pydicom.dcmwrite(stream, chest_dataset(number, **elements), enforce_file_format=True)
    return stream.getvalue()


def write_chest(path: Path, number: int = 0, **elements: Any) -> Path:
    """Write the file of `chest_dataset`, and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chest_bytes(number, **elements))
    return path


BROKEN: dict[str, tuple[bytes, str]] = {
    "truncated_pixels": (chest_bytes(900)[:-3000], "undecodable"),
    "truncated_header": (chest_bytes(901)[:300], "broken"),
    "page": (b"<!DOCTYPE html><title>Session expired</title>" + b" " * 200, "not_dicom"),
    "empty": (b"", "not_dicom"),
    "no_bits": (chest_bytes(902, BitsStored=None), "pixel_format"),
    "tomogram": (chest_bytes(903, Modality="CT"), "modality"),
    "raw": (chest_bytes(904, PresentationIntentType="FOR PROCESSING"), "for_processing"),
    "lateral": (chest_bytes(905, ViewPosition="LL"), "view"),
    "burned_in": (chest_bytes(906, BurnedInAnnotation="YES"), "burned_in"),
    "nobody": (chest_bytes(907, PatientID=None), "no_patient"),
    "no_pixels": (chest_bytes(908, PixelData=None), "no_pixels"),
    "foot": (chest_bytes(909, BodyPartExamined="FOOT"), "body_part"),
}
"""Contents of files that must be rejected, with the reason."""
