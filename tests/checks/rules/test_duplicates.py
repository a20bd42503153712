import numpy as np
from PIL import Image

from cxr_isnet.checks import Severity
from cxr_isnet.checks.rules import duplicates
from tests.checks.conftest import save


def test_different_patients_are_no_finding(hospital, scan_of):
    assert list(duplicates.find(scan_of(hospital))) == []


def test_equal_files_under_two_labels_are_an_error(hospital, scan_of, tmp_path):
    (tmp_path / "3.png").write_bytes((tmp_path / "0.png").read_bytes())

    (finding,) = duplicates.find(scan_of(hospital))

    assert finding.severity is Severity.ERROR
    assert "byte for byte, under the labels normal and ill, patients P0 and P3" in finding.message
    assert [place.row for place in finding.places] == [1, 4]
    assert [picture.image for picture in finding.pictures] == [str(tmp_path / "0.png"), str(tmp_path / "3.png")]


def test_equal_files_of_one_patient_are_a_warning(hospital, scan_of, tmp_path):
    (tmp_path / "2.png").write_bytes((tmp_path / "0.png").read_bytes())
    hospital.loc[2, "patient_id"] = "P0"

    (finding,) = duplicates.find(scan_of(hospital))

    assert finding.severity is Severity.WARNING


def test_another_export_of_the_same_picture_is_found_across_tables(hospital, scan_of, tmp_path, chests):
    small = Image.fromarray((255 * chests[0]).astype(np.uint8)).resize((120, 110))
    small.save(tmp_path / "4.jpg", quality=70)
    hospital.loc[4, ["image", "patient_id"]] = ["4.jpg", "P0"]

    (finding,) = duplicates.find(scan_of(hospital.iloc[:4], hospital.iloc[4:]))

    assert finding.severity is Severity.ERROR
    assert "show the same picture" in finding.message


def test_a_crop_is_found_with_its_place_in_the_whole(hospital, scan_of, tmp_path, chests):
    save(tmp_path / "5.jpg", chests[2][32:128, 16:128], quality=80)
    hospital.loc[5, "image"] = "5.jpg"

    (finding,) = duplicates.find(scan_of(hospital))

    part, whole = finding.pictures
    assert (part.image, whole.image) == (str(tmp_path / "5.jpg"), str(tmp_path / "2.png"))
    np.testing.assert_allclose(whole.box, [0.1, 0.2, 0.7, 0.6], atol=0.02)
    assert "one a crop of 70% of the other's width and 60% of its height" in finding.message


def test_a_mirrored_and_a_turned_copy_are_called_so(hospital, scan_of, tmp_path, chests):
    save(tmp_path / "4.png", chests[0][:, ::-1])
    turned = Image.fromarray(np.rint(255 * chests[1]).astype(np.uint8)).rotate(7, resample=Image.Resampling.BICUBIC)
    turned.save(tmp_path / "5.png")

    found = list(duplicates.find(scan_of(hospital)))

    assert len(found) == 2
    assert sum(", mirrored" in finding.message for finding in found) == 1
    assert sum("turned by 7 degrees" in finding.message for finding in found) == 1
    assert {finding.severity for finding in found} == {Severity.ERROR}
