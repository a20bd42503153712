import datetime
import gzip
import unicodedata
import zipfile

import openpyxl
import pandas as pd
import pytest

from cxr_isnet import table_formats
from cxr_isnet.errors import InputError
from cxr_isnet.files import write_csv
from cxr_isnet.tables import (
    check_replaceable,
    find_file,
    match_columns,
    read_table,
    require_columns,
    rows_of,
    to_numbers,
    write_table,
)

ROWS = [{"id": "007", "name": "Ann"}, {"id": "8", "name": ""}]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def sheet(path, rows, **formats):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for cell, number_format in formats.items():
        book.active[cell].number_format = number_format
    book.save(path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "id,name\n007, Ann \n8,\n",
        "id\tname\n007\tAnn\n8\t\n",
        "\ufeffid;name\r\n007;Ann\r\n8;\r\n",
        "id|name\r007|Ann\r8|\r",
        "sep=;\nid;name\n007;Ann\n8;\n",  # the line by which Excel is told the separator
        ";;\n;;\nid;name;\n007;Ann;\n;;\n8;;\n",  # Excel writes the empty cells that were once filled
        '"id","name"\n"007","Ann"\n"8"\n',
        "id;name\n007;Ann\n8;nan\n",
        "id;name\n007;Ann\n8;#N/A\n\x1a",
        "id;name\n007;Ann\n8;\n".encode("utf-16"),
        "id;name\n007;Ann\n8;\n".encode("utf-16-le"),
        "id;name\n007;Ann\n8;\n".encode("utf-32"),
        gzip.compress(b"id,name\n007,Ann\n8,\n", mtime=0),
    ],
)
def test_one_table_in_the_spellings_of_several_programs(tmp_path, content):
    frame = read_table(write(tmp_path / "a.csv", content))

    assert list(rows_of(frame)) == ROWS


def test_rows_are_numbered_as_a_spreadsheet_shows_them_below_the_header(tmp_path):
    frame = read_table(write(tmp_path / "a.csv", "id,name\n1,Ann\n,\n3,Eve\n"))

    assert frame.index.tolist() == [1, 3]


@pytest.mark.parametrize("suffix", [".xlsx", ".csv"])  # the content says what it is
def test_an_excel_file_is_read_as_excel_shows_it(tmp_path, suffix):
    rows = [
        ["id", "code", "label", "day", "share", None, "none"],
        [12, "0012", 1.0, datetime.datetime(2024, 3, 1), 0.25, None, None],
        [None] * 7,
        [13, "0013", 0.0, datetime.date(2024, 3, 2), 1e-07, None, None],
    ]

    frame = read_table(sheet(tmp_path / "a.xlsx", rows, A2="0000", A4="0000").rename(tmp_path / f"a{suffix}"))

    assert list(rows_of(frame)) == [
        {"id": "0012", "code": "0012", "label": "1", "day": "2024-03-01", "share": "0.25", "none": ""},
        {"id": "0013", "code": "0013", "label": "0", "day": "2024-03-02", "share": "1e-07", "none": ""},
    ]
    assert frame.index.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("number_format", "shown"),
    [
        ("00\\-00\\-00", "01-23-45"),
        ('"P"000000', "P012345"),
        ("000000;-000000", "012345"),
        ("[$-407]000", "12345"),
        ('0" years"', "12345"),  # an age stays a number
        ("#,##0", "12345"),
        ("0.00", "12345"),
    ],
)
def test_a_number_is_read_in_a_format_of_zeros(tmp_path, number_format, shown):
    """Source: ECMA-376, part 1, 18.8.31: `0` shows a digit or a zero, quoted and escaped characters as they are."""
    path = sheet(tmp_path / "a.xlsx", [["id", "name"], [12345, "Ann"]], A2=number_format)

    assert read_table(path)["id"].tolist() == [shown]


def test_times_of_an_excel_file_are_text(tmp_path):
    times = [datetime.time(8, 30), datetime.datetime(2024, 3, 1, 8, 30), datetime.timedelta(hours=30)]

    assert read_table(sheet(tmp_path / "a.xlsx", [["time"], *([time] for time in times)]))["time"].tolist() == [
        "08:30:00",
        "2024-03-01 08:30:00",
        "1 day, 6:00:00",
    ]


def test_hidden_rows_are_refused(tmp_path):
    """Whoever filters a table sees those rows only that are left; in the file are all."""
    path = sheet(tmp_path / "a.xlsx", [["id"], [1], [2], [3]])
    book = openpyxl.load_workbook(path)
    book.active.row_dimensions[3].hidden = True
    book.active.row_dimensions[99].hidden = True  # no cells
    book.save(path)

    with pytest.raises(InputError, match=r"has hidden rows with cells, 1 in all.*Show them, or delete them"):
        read_table(path)


def test_a_damaged_excel_file_is_told(tmp_path):
    """openpyxl fails at unknown attributes and at a sheet of diagrams without one with a TypeError, AttributeError."""
    sheet(tmp_path / "a.xlsx", [["id"], [1]])
    with zipfile.ZipFile(tmp_path / "a.xlsx") as whole, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as damaged:
        for name in whole.namelist():
            damaged.writestr(name, whole.read(name).replace(b"<workbookView ", b'<workbookView activ="0" '))

    with pytest.raises(InputError, match=r"b\.xlsx: not a readable table \(TypeError\)"):
        read_table(tmp_path / "b.xlsx")


def test_a_formula_without_a_value_is_refused(tmp_path):
    path = sheet(tmp_path / "a.xlsx", [["id", "label"], [1, '=IF(A2=1,"ill","well")']])

    with pytest.raises(
        InputError, match=r"a\.xlsx: cell B2 of sheet 'Sheet' is a formula without a stored value\. Open"
    ):
        read_table(path)


def test_two_filled_sheets_are_refused(tmp_path):
    book = openpyxl.Workbook()
    for name in ("Alder", "Birch"):
        book.create_sheet(name).append(["id"])
    book.save(tmp_path / "a.xlsx")

    with pytest.raises(InputError, match=r"has 2 sheets with cells \('Alder', 'Birch'\)\. Keep the sheet"):
        read_table(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    "label", ["Lungenentzündung", "neumonía", "ça va, créée", "Befund \u2013 auffällig", "l\u2019hôpital"]
)
def test_windows_1252_is_read_with_a_warning(tmp_path, label, caplog):
    frame = read_table(write(tmp_path / "a.csv", f"id;label\n1;{label}\n".encode("cp1252")))

    assert frame["label"].tolist() == [label]
    assert "a.csv: is not UTF-8; its accented letters are read as Windows-1252" in caplog.text


@pytest.mark.parametrize(
    ("label", "encoding"),
    [
        ("zapalenie płuc, gruźlica", "cp1250"),
        ("туберкулёз", "cp1251"),
        ("Lungenentzündung", "cp850"),
        ("Auffälligkeit", "cp437"),
        ("hémithorax opacifié", "mac-roman"),
        ("πνευμονία", "cp1253"),
        ("肺炎", "shift-jis"),
        ("肺结核病人", "gb18030"),
    ],
)
def test_other_encodings_are_not_guessed(tmp_path, label, encoding):
    path = write(tmp_path / "a.csv", f"id;label\n1;{label}\n".encode(encoding))

    with pytest.raises(InputError, match=r"neither UTF-8 nor Windows-1252.*Save it as 'CSV UTF-8'"):
        read_table(path)


def test_both_unicode_forms_of_a_letter_are_one(tmp_path):
    content = "Größe,label\n1,Lungenentzündung\n2," + unicodedata.normalize("NFD", "Lungenentzündung\n")

    frame = read_table(write(tmp_path / "a.csv", content))

    assert frame["label"].nunique() == 1
    assert match_columns(frame, [unicodedata.normalize("NFD", "GRÖßE")], "a").shape == (2, 2)


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["1.0", "0.0", ""], ["1", "0", ""]),  # pandas, where a column of whole numbers has gaps
        (["1,0", "0,0", "2"], ["1", "0", "2"]),
        (["-1.0", "1.0", "0.0"], ["-1", "1", "0"]),
        (["1.0", "0.5", "0.0"], ["1.0", "0.5", "0.0"]),
        (["01.0", "2.0", "3.0"], ["01.0", "2.0", "3.0"]),
        (["1,000", "2,000", "3,000"], ["1,000", "2,000", "3,000"]),  # thousands?
        (["0012", "0013", "7"], ["0012", "0013", "7"]),
        (["1.0", "0.0", "x"], ["1.0", "0.0", "x"]),
    ],
)
def test_whole_numbers_lose_a_decimal_that_no_one_wrote(tmp_path, cells, read):
    content = "\n".join(["n;cell", *(f"{n};{cell}" for n, cell in enumerate(cells))])

    assert read_table(write(tmp_path / "a.csv", content))["cell"].tolist() == read


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ('="0012"', "0012"),  # how programs keep Excel from making 12 of it
        ('"=""0012"""', "0012"),
        ('"=""a""&""b"""', '="a"&"b"'),
        ("\ufeff0012", "0012"),
        ("\u200e0012\u200f\xa0", "0012"),
        ("ill\u200b", "ill"),
        ("\u200b", ""),
        ("\u0646\u200c\u0645", "\u0646\u200c\u0645"),  # within a Persian word it belongs there
    ],
)
def test_what_keeps_a_cell_from_being_seen_or_counted_is_left_out(tmp_path, cell, read):
    path = write(tmp_path / "a.csv", f"n,cell\n1,{cell}\n")

    assert read_table(path)["cell" if read else "n"].tolist() == [read or "1"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_replaces_one_of_its_own_kind_only(tmp_path, suffix):
    path, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_table(pd.DataFrame({"image": ["a.png"], "label": ["ill"]}), path)
    write_table(pd.DataFrame({"study_id": ["1"], "label": ["ill"]}), other)
    write(tmp_path / "letter.csv", b"\x89PNG no table")

    check_replaceable(path, ("image", "label"), "a manifest")
    check_replaceable(tmp_path / "none.csv", ("image", "label"), "a manifest")
    check_replaceable(write(tmp_path / "empty.csv", ""), ("image", "label"), "a manifest")
    for file in (other, tmp_path / "letter.csv"):
        with pytest.raises(InputError, match="is there already, and is not a manifest, which would replace it"):
            check_replaceable(file, ("image", "label"), "a manifest")


@pytest.mark.parametrize("title", ["Labels of 2020,,\n", "Labels of 2020,,\nstate of May,,\n"])
def test_a_title_above_the_header_is_told(tmp_path, title):
    frame = read_table(write(tmp_path / "a.csv", f"{title}Image,Label,x\na.png,ill,3\n"))

    with pytest.raises(InputError, match=r"the names of columns stand in row \d below the first line.*Remove"):
        match_columns(frame, ["image", "label"], "a.csv")


def test_cells_that_are_named_like_columns_are_no_header(tmp_path):
    frame = read_table(write(tmp_path / "a.csv", "image,a,b\na.png,image,label\n"))

    assert match_columns(frame, ["image", "label"], "a.csv").shape == (1, 3)


def test_parquet_is_read_as_the_same_text(tmp_path):
    pd.DataFrame({"id": ["007", "8"], "label": [1.0, None], "age": [40.5, 3]}).to_parquet(tmp_path / "a.parquet")

    assert list(rows_of(read_table(tmp_path / "a.parquet"))) == [
        {"id": "007", "label": "1", "age": "40.5"},
        {"id": "8", "label": "", "age": "3.0"},
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [("id,label\n1,ill\n2", True), ("id,label\n1,ill\n2\n", False), ("id,label\n1,ill\n2,", False)],
)
def test_a_table_that_was_cut_off_is_told(tmp_path, content, told, caplog):
    read_table(write(tmp_path / "a.csv", content))

    assert ("a.csv: ends within a line of fewer cells" in caplog.text) == told


def test_a_trailing_separator_shifts_nothing(tmp_path, caplog):
    """pandas alone takes the first column for the index, and 'a.png' for no image at all."""
    frame = read_table(write(tmp_path / "a.csv", "image,label\na.png,ill,\nb.png,well,\n"))

    assert list(rows_of(frame)) == [{"image": "a.png", "label": "ill"}, {"image": "b.png", "label": "well"}]
    assert "rows have empty cells behind the last column" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a,b\n1,2\n1,2,3\n0,5,0,5\n",
            r"line 3, 4 has more cells than the first line has columns \(2\).*title.*decimal comma",
        ),
        ("a,b;c\n1,2;3\n", r"may be separated by ',' or by ';'\. Use one of them only"),
        ("a;b;c\n1,2,3\n1,2,3\n", r"the header has 3 columns, separated by ';', and no row has more than one cell"),
        ('"a,b"\n"1,2"\n', r"each line is one quoted cell\. Save it anew"),
        ("a,b,a\n1,2,3\n", r"column 'a' is there twice\. Remove or rename"),
        ('a,b\n1,"2\n3,4\n', r"not a readable table \(.*EOF inside string.*\)\. Save it"),
        ("", r"it is empty\. Give a header"),
        ("\n\n", r"it is empty"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"old form \(\.xls\) or with a password\. Save it"),
        (b"\xff\xd8\xff\xe0 not a table", r"a JPEG picture\. Save it"),
        (b"a,b\n1,\x01\x02\n", r"binary data"),
        ("<html><table>", r"a web page or XML"),
        (b"\x1f\x8b broken", r"not a readable table \(EOFError\)"),
        (b"PK\x03\x04 broken", r"not a readable table \(BadZipFile\)"),
        (b"PAR1 broken", r"not a readable table"),
    ],
)
def test_what_is_ambiguous_or_no_table_is_refused_with_the_cure(tmp_path, content, message):
    with pytest.raises(InputError, match=r"a\.csv: .*" + message):
        read_table(write(tmp_path / "a.csv", content))


def test_a_separator_in_some_cells_does_not_mislead(tmp_path):
    content = 'id,"name, first;last"\n1,"Ann; Eve"\n2,a;b;c\n'

    frame = read_table(write(tmp_path / "a.csv", content))

    assert frame.iloc[:, 1].tolist() == ["Ann; Eve", "a;b;c"]


def archive(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "id\n1\n")
    return path


def test_a_zip_of_one_table_is_that_table(tmp_path):
    assert list(rows_of(read_table(archive(tmp_path / "a.csv.zip", "a.csv", "__MACOSX/._a.csv")))) == [{"id": "1"}]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.csv", "b.csv"), r"an archive of 2 files\. Unpack it"),
        (("mimetype", "content.xml"), r"an office document"),
        (("xl/workbook.xml",), r"not a readable table \(KeyError\)"),
    ],
)
def test_other_archives_are_named(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        read_table(archive(tmp_path / "a.xlsx", *names))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: there is no such table\. Correct the path"):
        read_table(tmp_path / "nowhere.csv")


def test_missing_columns_are_named_beside_those_that_are_there(tmp_path):
    frame = read_table(write(tmp_path / "a.csv", "id,name\n1,Ann\n"))

    require_columns(frame, tmp_path / "a.csv", ("name",))
    with pytest.raises(InputError, match=r"a\.csv: column 'age', 'sex' is missing; the table has 'id', 'name'"):
        require_columns(frame, tmp_path / "a.csv", ("age", "id", "sex"))


@pytest.mark.parametrize("header", ["Patient ID", "PatientID", "PATIENT_ID", "patient-id", " patient  id "])
def test_names_may_differ_in_capitals_and_blanks(tmp_path, header):
    frame = read_table(write(tmp_path / "a.csv", f"{header};other\n1;2\n"))

    assert list(match_columns(frame, ["patient_id", "site"], "a.csv")) == ["patient_id", "other"]


def test_two_columns_of_one_name_are_refused(tmp_path):
    frame = read_table(write(tmp_path / "a.csv", "Label,label\n1,2\n"))

    with pytest.raises(InputError, match=r"a\.csv: columns 'Label', 'label' may each be 'label'\. Rename all but one"):
        match_columns(frame, ["label"], "a.csv")


def test_decimal_commas_and_points_are_numbers():
    assert to_numbers(pd.Series(["0,95", "1", "1,5E-3"]), "a").tolist() == [0.95, 1, 0.0015]
    assert to_numbers(pd.Series(["0.95", "1e-3"]), "a").tolist() == [0.95, 0.001]
    assert to_numbers(pd.Series([1, 2]), "a").tolist() == [1, 2]
    assert to_numbers(pd.Series(["", "x", "1,000,000"]), "a").isna().all()


def test_commas_beside_points_are_refused():
    column = pd.Series(["0,95", "1.5"], index=[1, 2], name="age")

    with pytest.raises(InputError, match=r"a\.csv: column 'age' has a comma in row 1 and a point in row 2.*one way"):
        to_numbers(column, "a.csv")


def test_a_file_is_found_in_the_other_unicode_form_and_with_windows_separators(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Münster")
    (tmp_path / decomposed).mkdir()
    write(tmp_path / decomposed / unicodedata.normalize("NFD", "ä.png"), "")

    for cell in ("Münster/ä.png", "Münster\\ä.png"):
        assert find_file(tmp_path, cell) == str(tmp_path / decomposed / unicodedata.normalize("NFD", "ä.png"))
    assert find_file(tmp_path, "Münster/b.png") == str(tmp_path / "Münster/b.png")
    assert find_file(tmp_path, "../b.png") == str(tmp_path.parent / "b.png")


@pytest.mark.parametrize("text", ["=1+1", "+a", "@b", "-c", "'=1", "'quoted'", "-1.5"])
def test_what_write_csv_defuses_reads_back_as_it_was(tmp_path, text):
    write_csv(tmp_path / "t.csv", ["label", "=x"], [(text, "1")])

    frame = read_table(tmp_path / "t.csv")

    assert (list(frame.columns), frame["label"][1]) == (["label", "=x"], text)


def test_a_table_that_inflates_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    """1 MB of zeros in a kB: of a real one the memory would be gone before the table is looked at."""
    monkeypatch.setattr(table_formats, "_MAX_INFLATED", 2**20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"0" * 2**21))

    with pytest.raises(InputError, match="is larger than"):
        read_table(tmp_path / "a.csv.gz")
