import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import Place, inspect_manifest, join_tables
from cxr_isnet.manifests.problems import ColumnProblem, raise_first


def test_a_sound_table_has_no_problems_and_rows_count_from_one(rows, write_table):
    frame, problems = inspect_manifest(write_table(rows))

    assert problems == []
    assert list(frame.index) == [1, 2, 3, 4]


def test_all_problems_are_reported_at_once(rows, write_table):
    spoilt = rows.assign(sex=["F", "tall", "M", "heavy"], age=["old", "40", "130", ""])
    spoilt.loc[0, "site"] = ""

    frame, problems = inspect_manifest(write_table(spoilt))

    assert {(one.column, *one.values.index) for one in problems} == {("age", 1), ("age", 3), ("sex", 2, 4), ("site", 1)}
    assert len(frame) == 4


def test_files_are_not_looked_at(rows, write_table):
    rows.loc[0, "image"] = "gone.png"

    assert inspect_manifest(write_table(rows))[1] == []


def test_joined_rows_know_their_table(rows, write_table):
    frame, _ = inspect_manifest(write_table(rows))

    joined = join_tables(["first", "second"], [frame, frame.assign(device="Alpha").iloc[1:2]])

    assert list(joined.index) == [Place("first", n) for n in (1, 2, 3, 4)] + [Place("second", 2)]
    assert joined["device"].tolist() == ["", "", "", "", "Alpha"]


def test_the_first_problem_is_raised_and_none_is_not(rows):
    raise_first([])

    with pytest.raises(InputError, match=r"table: column 'image' is odd \(row 0: 'a\.png'.*Change it"):
        raise_first([ColumnProblem("table", "image", rows["image"], "is odd", "change it")])
