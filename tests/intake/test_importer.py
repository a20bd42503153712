"""The import of one file, in the process of the test."""

import hashlib
import zipfile

import numpy as np
import pytest

from cxr_isnet.imaging import read_image
from cxr_isnet.imaging.acceptance import AcceptanceConfig
from cxr_isnet.intake.importer import (
    Candidate,
    DateAction,
    ImageFormat,
    ImportConfig,
    Importer,
    PolarityAction,
    Rejected,
    UnwritableOutput,
)
from cxr_isnet.intake.pseudonyms import Pseudonyms
from tests.imaging.chest_files import SECRET, chest_bytes, chest_pixels, write_chest

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
    assert outcome.manifest["sha256"] == sha256(path)


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
