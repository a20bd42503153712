"""Phantom X-rays as DICOM CR files, marked as synthetic in the header."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

_UID_ROOT = "2.25."
"""Root of identifiers made of a UUID-sized number, for which no registration is needed (PS3.5, B.2)."""


@dataclass(frozen=True)
class PhantomRecord:
    """The header values of one phantom.

    Attributes:
        patient_id: identifier, recognisable as synthetic.
        site: institution.
        sex: "F" or "M".
        age: years.
        seed: distinguishes data sets with equal names; part of all UIDs.
        monochrome1: whether low values are stored as bright.
    """

    patient_id: str
    site: str
    sex: str
    age: int
    seed: int
    monochrome1: bool


def write_dicom(path: Path, pixels: NDArray[np.uint16], record: PhantomRecord, bits: int) -> None:
    """Writes one file; equal arguments give equal bytes.

    Args:
        path: file to write.
        pixels: (rows, columns) uint16 from 0 to 2**bits - 1; bright is dense.
        record: the header values.
        bits: BitsStored.
    """
    highest = 2**bits - 1
    stored = (highest - pixels) if record.monochrome1 else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(record, "instance")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    _describe_study(file, record)
    file.Rows, file.Columns = stored.shape
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME1" if record.monochrome1 else "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, bits, bits - 1
    file.PixelRepresentation = 0
    file.RescaleIntercept, file.RescaleSlope, file.RescaleType = "0", "1", "US"
    file.WindowCenter, file.WindowWidth = str((highest + 1) // 2), str(highest + 1)
    file.ImagerPixelSpacing = [str(round(430 / len(stored), 4))] * 2
    file.PixelData = stored.astype("<u2").tobytes()
    file.save_as(path, enforce_file_format=True)


def _describe_study(file: FileDataset, record: PhantomRecord) -> None:
    file.SOPClassUID = ComputedRadiographyImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID = _uid(record, "study")
    file.SeriesInstanceUID = _uid(record, "series")
    file.PatientID = record.patient_id
    file.PatientName = f"PHANTOM^{record.patient_id}"
    file.PatientSex = record.sex
    file.PatientAge = f"{record.age:03d}Y"
    file.PatientBirthDate = ""
    file.PatientIdentityRemoved = "YES"
    file.DeidentificationMethod = "Drawn by a program; no person was examined"
    file.StudyDate, file.StudyTime = "20000101", "120000"
    file.StudyID, file.SeriesNumber, file.InstanceNumber = "1", 1, 1
    file.AccessionNumber = file.ReferringPhysicianName = ""
    file.Modality = "CR"
    file.Manufacturer = "cxr-isnet phantom"
    file.InstitutionName = record.site
    file.BodyPartExamined = "CHEST"
    file.ViewPosition = "PA"
    file.PatientOrientation = ["L", "F"]
    file.Laterality = ""
    file.ImageType = ["DERIVED", "PRIMARY"]
    file.BurnedInAnnotation = "NO"


def _uid(record: PhantomRecord, part: str) -> UID:
    name = f"{record.site}/{record.patient_id}/{record.seed}/{part}"
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    return UID(f"{_UID_ROOT}{number}")
