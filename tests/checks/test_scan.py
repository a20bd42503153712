import pytest

from cxr_isnet.checks import Severity, scan_manifests
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import Place


def test_rows_of_all_tables_are_known_by_their_place(hospital, scan_of, tmp_path):
    scan = scan_of(hospital.iloc[:2], hospital.iloc[2:])

    assert scan.frame.index[0] == Place(str(tmp_path / "table0.csv"), 1)
    assert scan.frame.index[-1] == Place(str(tmp_path / "table1.csv"), 4)
    assert scan.places(str(tmp_path / "2.png")) == (Place(str(tmp_path / "table1.csv"), 1),)
    assert len(scan.comparable) == len(scan.thumbnails) == 6
    assert scan.schema_findings == ()


def test_a_file_is_read_once_and_a_content_compared_once(hospital, scan_of, tmp_path):
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())

    scan = scan_of(hospital, hospital.iloc[:1])

    assert len(scan.images) == 6
    assert len(scan.comparable) == 5


def test_a_table_that_cannot_be_read_leaves_the_others(hospital, scan_of, tmp_path):
    scan = scan_of(hospital.drop(columns="label"), hospital)

    assert [finding.severity for finding in scan.schema_findings] == [Severity.UNUSABLE]
    assert "'label' is missing" in scan.schema_findings[0].message
    assert scan.tables == (str(tmp_path / "table1.csv"),)


def test_all_cells_that_break_the_schema_are_collected(hospital, scan_of, tmp_path):
    spoilt = hospital.assign(sex=["F", "seven", "M", "M", "", "M"], age=["40", "", "old", "212", "7", "8"])
    spoilt.loc[5, "patient_id"] = ""

    scan = scan_of(spoilt)

    found = {(finding.column, finding.places[0].row) for finding in scan.schema_findings}
    assert found == {("sex", 2), ("age", 3), ("age", 4), ("patient_id", 6)}
    assert {finding.severity for finding in scan.schema_findings} == {Severity.UNUSABLE}
    assert len(scan.comparable) == 6


@pytest.mark.parametrize("tables", [[], ["a.csv", "a.csv"]])
def test_no_table_or_one_twice_is_refused(tables):
    with pytest.raises(InputError, match="tables"):
        scan_manifests(tables, workers=1)


def test_further_columns_that_identify_images_are_left_out(phantom_table, tmp_path):
    numbers = range(len(phantom_table))
    wide = phantom_table.assign(note=[f"image {n}" for n in numbers], ward=[n % 3 for n in numbers])
    wide.to_csv(tmp_path / "wide.csv", index=False)

    scan = scan_manifests([str(tmp_path / "wide.csv")], workers=1)

    assert {"image", "patient_id", "ward"} <= set(scan.frame.columns)
    assert "note" not in scan.frame.columns
    assert "ward" not in scan.rows(scan.frame["image"].iloc[0]).columns, "what is asked for every image stays narrow"
