import numpy as np
import pydicom
import pytest

from cxr_isnet.imaging import read_image
from cxr_isnet.phantoms.dicom import PhantomRecord, write_dicom

PIXELS = np.arange(0, 4096, 4, dtype=np.uint16).reshape(32, 32)


def record(**changes: object) -> PhantomRecord:
    standard = {"patient_id": "P1", "site": "Alder", "sex": "F", "age": 40, "seed": 0, "monochrome1": False}
    return PhantomRecord(**(standard | changes))


@pytest.mark.parametrize("monochrome1", [False, True])
def test_reads_back_with_bright_dense(tmp_path, monochrome1):
    write_dicom(tmp_path / "p.dcm", PIXELS, record(monochrome1=monochrome1), 12)

    np.testing.assert_allclose(read_image(tmp_path / "p.dcm"), PIXELS / 4095, atol=1e-3)


def test_header_says_what_it_is(tmp_path):
    write_dicom(tmp_path / "p.dcm", PIXELS, record(), 12)

    header = pydicom.dcmread(tmp_path / "p.dcm")
    assert (header.Modality, header.ViewPosition, header.PatientAge) == ("CR", "PA", "040Y")
    assert (header.BitsStored, header.HighBit, header.PhotometricInterpretation) == (12, 11, "MONOCHROME2")
    assert header.PatientName.family_name == "PHANTOM"


def test_uids_are_valid_distinct_and_repeatable(tmp_path):
    for name, who in (("a", record()), ("b", record()), ("c", record(seed=1))):
        write_dicom(tmp_path / name, PIXELS, who, 12)

    first, again, other = (pydicom.dcmread(tmp_path / name) for name in "abc")
    uids = [first.SOPInstanceUID, first.SeriesInstanceUID, first.StudyInstanceUID, other.SOPInstanceUID]
    assert all(uid.is_valid for uid in uids)
    assert len(set(uids)) == 4
    assert first == again
