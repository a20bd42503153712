import gzip

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.text_tables import read_text_table, require_columns, rows_of


@pytest.mark.parametrize(
    ("name", "content", "separator"),
    [
        ("a.csv", "id,name\n007, Ann \n8,\n", ","),
        ("a.tsv", "id\tname\n007\tAnn\n8\t\n", "\t"),
        ("a.csv", "\ufeffid;name\n007;Ann\n8;\n", ";"),
    ],
)
def test_cells_are_stripped_text(tmp_path, name, content, separator):
    (tmp_path / name).write_text(content, encoding="utf-8")

    frame = read_text_table(tmp_path / name, separator=separator)

    assert list(rows_of(frame)) == [{"id": "007", "name": "Ann"}, {"id": "8", "name": ""}]
    assert frame.index.tolist() == [1, 2]


def test_compressed_tables_are_read(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id\n1\n"))

    assert list(rows_of(read_text_table(tmp_path / "a.csv.gz"))) == [{"id": "1"}]


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(b"id\n1\n")

    with pytest.raises(InputError, match=r"a\.csv\.gz: not a readable table"):
        read_text_table(tmp_path / "a.csv.gz")


def test_missing_columns_are_named_beside_those_that_are_there(tmp_path):
    (tmp_path / "a.csv").write_text("id,name\n1,Ann\n")
    frame = read_text_table(tmp_path / "a.csv")

    require_columns(frame, tmp_path / "a.csv", ("name",))
    with pytest.raises(InputError, match=r"a\.csv: column 'age', 'sex' is missing; the table has 'id', 'name'"):
        require_columns(frame, tmp_path / "a.csv", ("age", "id", "sex"))
