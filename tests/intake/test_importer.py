"""The import of one file, in the process of the test."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image
from cxr_isnet.imaging.acceptance import AcceptanceConfig
from cxr_isnet.intake.importer import (
    Candidate,
    DateAction,
    FileLimits,
    ImageFormat,
    ImportConfig,
    Imported,
    Importer,
    PolarityAction,
    Rejected,
    UnwritableOutput,
)
from cxr_isnet.intake.pseudonyms import Pseudonyms
from tests.imaging.chest_files import SECRET, chest_bytes, chest_dataset, chest_pixels, write_chest

PSEUDONYMS = Pseudonyms(b"sixteen bytes ok")
NEGATIVE = (4095 - chest_pixels(seed=1)).astype("<u2").tobytes()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def importer(out, **settings):
    standard = {
        "format": ImageFormat.PNG,
        "polarity": PolarityAction.RECORD,
        "dates": DateAction.DROP,
        "acceptance": AcceptanceConfig(),
    }
    return Importer(ImportConfig(output=out, pseudonyms=PSEUDONYMS, **(standard | settings)))


def candidate(path, member=None):
    return Candidate("id", path, member, "stamp")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_identifiers_become_pseudonyms_of_their_kind(out, tmp_path):
    path = write_chest(tmp_path / "a", 1)

    outcome = importer(out)(candidate(path))

    assert outcome.patient == PSEUDONYMS.of("patient", f"{SECRET}-1")
    assert outcome.accession == PSEUDONYMS.of("accession", f"{SECRET}1")
    assert outcome.instance == PSEUDONYMS.of("instance", "2.25.1001")
    assert outcome.content == PSEUDONYMS.of("content", sha256(path))
    assert SECRET not in str(outcome)


def test_identifiers_with_a_backslash_stay_apart(out, tmp_path):
    """A backslash separates values (PS3.5, 6.2): by the first of them alone both are patient 12."""
    one, other = (
        importer(out)(candidate(write_chest(tmp_path / pid[-1], PatientID=pid))) for pid in (r"12\3", r"12\4")
    )

    assert one.patient == PSEUDONYMS.of("patient", r"12\3")
    assert other.patient == PSEUDONYMS.of("patient", r"12\4")


@pytest.mark.parametrize(("written", "read"), [("FEMALE", "F"), ("m", "M"), ("Weiblich", "F"), ("X", ""), (None, "")])
def test_sex_is_one_of_three_letters(out, tmp_path, written, read):
    """PatientSex is M, F or O (PS3.3, C.2.3); hospitals write words."""
    assert importer(out)(candidate(write_chest(tmp_path / "a", PatientSex=written))).manifest["sex"] == read


def test_missing_identifiers_have_no_pseudonym(out, tmp_path):
    outcome = importer(out)(candidate(write_chest(tmp_path / "a", AccessionNumber="")))

    assert outcome.accession == ""


def test_the_digest_is_that_of_the_image_that_is_written(out, tmp_path):
    outcome = importer(out)(candidate(write_chest(tmp_path / "a", 1)))

    assert outcome.manifest["sha256"] == sha256(out / outcome.image)
    np.testing.assert_allclose(read_image(out / outcome.image), chest_pixels(seed=1) / 4095, atol=1 / 65535)


def test_by_reference_the_image_is_a_link_to_the_file(out, tmp_path):
    path = write_chest(tmp_path / "a", 1)

    outcome = importer(out, format=ImageFormat.REFERENCE)(candidate(path))

    assert (out / outcome.image).resolve() == path


def test_by_reference_nothing_tells_whoever_has_a_file_which_row_is_its(out, tmp_path):
    path = write_chest(tmp_path / "a", 1)

    outcome = importer(out, format=ImageFormat.REFERENCE)(candidate(path))

    assert outcome.manifest["sha256"] == ""
    assert Path(outcome.image).stem == PSEUDONYMS.of("content", sha256(path))
    assert sha256(path)[:16] not in str(outcome)


def test_a_suspected_negative_is_recorded_quarantined_or_corrected(out, tmp_path):
    path = write_chest(tmp_path / "a", 1, PixelData=NEGATIVE)

    recorded, rejected, corrected = (importer(out, polarity=action)(candidate(path)) for action in PolarityAction)

    assert recorded.flags == ("polarity",)
    assert (rejected.reason.value, "looks like a negative" in rejected.detail) == ("polarity", True)
    assert corrected.flags == ("polarity_corrected",)
    assert corrected.provenance["applied"].endswith("inverted by the picture check")
    np.testing.assert_allclose(read_image(out / corrected.image), chest_pixels(seed=1) / 4095, atol=1 / 65535)


@pytest.mark.parametrize("action", PolarityAction)
def test_other_images_are_left_as_they_are_whatever_happens_to_negatives(out, tmp_path, action):
    outcome = importer(out, polarity=action)(candidate(write_chest(tmp_path / "a", 1)))

    assert outcome.flags == ()
    np.testing.assert_allclose(read_image(out / outcome.image), chest_pixels(seed=1) / 4095, atol=1 / 65535)


def test_acceptance_criteria_are_those_of_the_intake(out, tmp_path):
    path = write_chest(tmp_path / "a", ViewPosition="LL")

    assert importer(out)(candidate(path)).reason.value == "view"
    assert importer(out, acceptance=AcceptanceConfig(other_views=True))(candidate(path)).manifest["view"] == "lateral"


def test_study_dates_are_dropped_or_shifted(out, tmp_path):
    path = write_chest(tmp_path / "a", 1)

    dropped, shifted = (importer(out, dates=action)(candidate(path)) for action in DateAction)

    assert "study_date" not in dropped.manifest
    assert shifted.manifest["study_date"] == PSEUDONYMS.shift_date("20200131", f"{SECRET}-1")


def test_a_member_of_an_archive_is_imported_like_a_file_but_not_linked_to(out, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "no image")
        archive.writestr("IM1", chest_bytes(1))
    plain = write_chest(tmp_path / "IM1", 1)

    assert importer(out)(candidate(tmp_path / "a.zip", 1)) == importer(out)(candidate(plain))
    by_reference = importer(out, format=ImageFormat.REFERENCE)(candidate(tmp_path / "a.zip", 1))
    assert (by_reference.reason.value, "cannot be linked to" in by_reference.detail) == ("archive", True)


def test_a_damaged_member_of_an_archive_is_rejected(out, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("IM1", chest_bytes(1))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[2000] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(bytes(content))

    outcome = importer(out)(candidate(tmp_path / "a.zip", 0))

    assert (outcome.reason.value, "does not unpack" in outcome.detail) == ("archive", True)


def test_a_member_packed_in_an_unknown_way_is_told_as_that(out, tmp_path):
    """Windows packs members of more than 2 GB by method 9, Deflate64 (APPNOTE 4.4.5)."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM1", chest_bytes(1))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[8] = content[content.rindex(b"PK\x01\x02") + 10] = 9
    (tmp_path / "a.zip").write_bytes(bytes(content))

    outcome = importer(out)(candidate(tmp_path / "a.zip", 0))

    assert (outcome.reason.value, outcome.detail[-32:]) == ("archive", "as Deflate64. Unpack the archive")


def test_what_is_larger_than_a_file_may_be_is_rejected_before_it_is_read(out, tmp_path):
    content = chest_bytes(1, pixels=chest_pixels(800))  # 1.28 MB
    (tmp_path / "plain").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM1", content)
    (tmp_path / "deflated").write_bytes(deflated(chest_dataset(1, pixels=np.zeros((800, 800), np.uint16))))
    small = importer(out, limits=FileLimits(megabytes=1))

    for source in (("plain",), ("a.zip", 0), ("deflated",)):
        outcome = small(candidate(tmp_path / source[0], *source[1:]))
        assert (outcome.reason.value, "more than 1000000" in outcome.detail) == ("limit", True), source
        assert isinstance(importer(out)(candidate(tmp_path / source[0], *source[1:])), Imported), source


def test_a_header_that_says_more_pixels_than_an_image_may_have_is_rejected(out, tmp_path):
    path = write_chest(tmp_path / "a", 1, Rows=60000, Columns=60000)

    assert importer(out)(candidate(path)).reason.value == "limit"


def test_what_needs_too_much_memory_is_left_to_the_pool(out, tmp_path, monkeypatch):
    def fill(*_, **__):
        raise MemoryError

    monkeypatch.setattr(pydicom, "dcmread", fill)

    with pytest.raises(MemoryError):
        importer(out)(candidate(write_chest(tmp_path / "a", 1)))


@pytest.mark.parametrize("settings", [{"megabytes": 0}, {"megapixels": -1}, {"seconds": 0.0}])
def test_limits_that_let_nothing_in_are_an_error(settings):
    with pytest.raises(InputError, match="above 0"):
        FileLimits(**settings)


def test_the_list_of_an_archive_is_parsed_once_for_all_of_its_members(out, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(5):
            archive.writestr(str(number), chest_bytes(number))
    parsed = []
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", counting(zipfile.ZipFile._RealGetContents, parsed))
    take = importer(out)

    assert all(isinstance(take(candidate(tmp_path / "a.zip", member)), Imported) for member in range(5))
    assert len(parsed) == 1


def counting(function, calls):
    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counted


def deflated(dataset):
    """The file of a data set in Deflated Explicit VR Little Endian."""
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def test_a_file_that_cannot_be_read_is_rejected_without_its_name(out, tmp_path):
    outcome = importer(out)(candidate(tmp_path / f"{SECRET}.dcm"))

    assert isinstance(outcome, Rejected)
    assert outcome.reason.value == "unreadable"
    assert SECRET not in outcome.detail


def test_an_output_that_cannot_be_written_to_is_not_the_files_fault(out, tmp_path):
    out.mkdir()
    (out / "images").write_text("a file in the place of the folder")

    outcome = importer(out)(candidate(write_chest(tmp_path / "a")))

    assert isinstance(outcome, UnwritableOutput)
    assert str(out / "images") in outcome.detail


@pytest.mark.parametrize(("keep", "device"), [(False, "Fujifilm other"), (True, "FUJI PHOTO FILM FCR 9000")])
def test_the_device_is_of_a_closed_set_unless_it_is_to_be_kept(tmp_path, keep, device):
    """PS3.15, Annex E.3.8 (Retain Device Identity Option)."""
    path = write_chest(tmp_path / "a", Manufacturer="FUJI PHOTO FILM", ManufacturerModelName="FCR 9000")

    outcome = importer(tmp_path / "out", keep_device=keep)(candidate(path))

    assert outcome.manifest["device"] == device
    assert outcome.provenance["manufacturer"] == device.split()[0] or keep
