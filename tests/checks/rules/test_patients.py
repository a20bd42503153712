import pandas as pd
import pytest

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


@pytest.mark.parametrize("column", ["study_uid", "StudyInstanceUID"])
def test_a_study_of_two_patients_is_an_error(hospital, scan_of, column):
    hospital[column] = ["1.2.3", "1.2.4", "1.2.3", "1.2.5", "", ""]

    (finding,) = find(scan_of(hospital))

    assert (finding.severity, finding.column) == (Severity.ERROR, column)
    assert "1.2.3 of P0, P2" in finding.message
    assert [place.row for place in finding.places] == [1, 3]


@pytest.mark.parametrize("word", ["ANONYMOUS", "anon", "Anonymized", "unknown", "N/A", "0000", "none"])
def test_an_id_that_names_nobody_is_a_warning(hospital, scan_of, word):
    found = find(scan_of(hospital.assign(patient_id=[word, word, "P2", "P3", "P4", "P5"])))

    named = [one for one in found if one.column == "patient_id"]
    assert [(one.severity, one.value) for one in named] == [(Severity.WARNING, word)]
    assert "2 images of Alder" in named[0].message


def test_a_pseudonym_of_most_images_of_a_hospital_is_a_warning(hospital, scan_of):
    many = pd.concat([hospital] * 5, ignore_index=True).assign(label="normal")
    many["patient_id"] = ["7f3a"] * 25 + [f"P{n}" for n in range(5)]

    assert [one.value for one in find(scan_of(many)) if one.column == "patient_id"] == ["7f3a"]
    assert list(find(scan_of(many.assign(patient_id=[f"P{n % 10}" for n in range(30)])))) == []
