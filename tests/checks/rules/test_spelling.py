import pytest

from cxr_isnet.checks import Severity
from cxr_isnet.checks.rules.spelling import find


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("COVID", "covid"),
        ("COVID-19", "Covid 19"),
        ("no_finding", "no finding"),
        ("Neumon\u00eda", "Neumonia"),
        ("ill", "\uff49\uff4c\uff4c"),
        ("Stra\u00dfe", "strasse"),
    ],
)
def test_two_spellings_of_one_class_are_a_warning_with_their_counts(hospital, scan_of, one, other):
    (finding,) = find(scan_of(hospital.assign(label=[one, other, "normal", one, "normal", "normal"])))

    assert finding.severity is Severity.WARNING
    assert f"{one!r} (2 rows), {other!r} (1 rows)" in finding.message
    assert [place.row for place in finding.places] == [1, 2, 4]


def test_two_spellings_of_a_hospital_are_found(hospital, scan_of):
    (finding,) = find(scan_of(hospital.iloc[:3], hospital.iloc[3:].assign(site="ALDER")))

    assert finding.column == "site"
    assert "2 hospitals" in finding.message


def test_different_names_are_no_finding(hospital, scan_of):
    assert list(find(scan_of(hospital.assign(label=["covid", "covid 19", "+", "-", "1", "10"])))) == []
