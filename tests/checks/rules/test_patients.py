from cxr_isnet.checks import Severity
from cxr_isnet.checks.rules.patients import find


def test_different_patients_are_no_finding(hospital, scan_of):
    assert list(find(scan_of(hospital.iloc[:3], hospital.iloc[3:]))) == []


def test_a_patient_in_two_splits_is_an_error_also_across_tables(hospital, scan_of):
    hospital["split"] = ["train"] * 3 + ["test"] * 3
    hospital.loc[4, ["patient_id", "label"]] = ["P0", "normal"]

    found = list(find(scan_of(hospital.iloc[:3], hospital.iloc[3:])))

    assert [(one.column, one.severity) for one in found] == [("split", Severity.ERROR), ("table", Severity.WARNING)]
    assert [place.row for place in found[0].places] == [2, 1] or {place.row for place in found[0].places} == {1, 2}
    assert "P0" in found[0].message
    assert len(found[0].pictures) == 2


def test_a_patient_of_two_labels_is_a_note_with_the_number(hospital, scan_of):
    hospital.loc[:3, "patient_id"] = ["P0", "P0", "P1", "P1"]

    (finding,) = find(scan_of(hospital))

    assert finding.severity is Severity.INFO
    assert "2 patients (2 of Alder)" in finding.message
    assert "P0 (ill, normal)" in finding.message
    assert len(finding.places) == 4


def test_an_id_at_two_sites_is_a_note(hospital, scan_of):
    hospital.loc[1, ["patient_id", "site"]] = ["P0", "Birch"]

    (finding,) = find(scan_of(hospital))

    assert (finding.column, finding.severity) == ("site", Severity.INFO)
    assert "P0 (Alder, Birch)" in finding.message
