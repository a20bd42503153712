import hashlib

import numpy as np

from cxr_isnet.checks import Severity
from cxr_isnet.checks.rules.files import find
from tests.checks.conftest import save


def test_a_healthy_hospital_has_no_findings(hospital, scan_of):
    assert list(find(scan_of(hospital))) == []


def test_missing_repeated_and_unreadable_files_are_all_found(hospital, scan_of, tmp_path):
    hospital.loc[0, "image"] = "gone.png"
    hospital.loc[1, "mask"] = "gone_mask.png"
    hospital.loc[3, "image"] = "2.png"
    (tmp_path / "4.png").write_bytes((tmp_path / "4.png").read_bytes()[:2000])

    found = {(one.column, tuple(place.row for place in one.places)) for one in find(scan_of(hospital))}

    assert found == {("image", (1,)), ("mask", (2,)), ("image", (3, 4)), ("image", (5,))}


def test_the_same_file_in_two_tables_is_found(hospital, scan_of, tmp_path):
    (finding,) = find(scan_of(hospital.iloc[:3], hospital.iloc[2:]))

    assert {place.table for place in finding.places} == {str(tmp_path / f"table{n}.csv") for n in range(2)}


def test_a_wrong_checksum_is_found_and_a_right_or_empty_one_is_not(hospital, scan_of, tmp_path):
    right = hashlib.sha256((tmp_path / "0.png").read_bytes()).hexdigest()

    (finding,) = find(scan_of(hospital.assign(sha256=[right, right, "", "", "", ""])))

    assert (finding.column, finding.severity, finding.places[0].row) == ("sha256", Severity.ERROR, 2)


def test_blank_and_tiny_images_are_warnings(hospital, scan_of, tmp_path, chests):
    save(tmp_path / "0.png", np.full((90, 90), 0.5))
    save(tmp_path / "1.png", chests[1][60:100, 40:140])

    found = list(find(scan_of(hospital)))

    assert [finding.places[0].row for finding in found] == [1, 2]
    assert {finding.severity for finding in found} == {Severity.WARNING}
    assert found[1].value == "40 x 100"
