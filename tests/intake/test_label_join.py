import csv
import unicodedata
from pathlib import Path

import openpyxl
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.intake.import_log import ImportLog
from cxr_isnet.intake.importer import Imported
from cxr_isnet.intake.label_join import read_label_table
from cxr_isnet.intake.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"sixteen bytes ok")
ROOT = Path("/archive")


def file_id(name):
    return PSEUDONYMS.of_file(ROOT, name)


@pytest.fixture
def log(tmp_path):
    """Patient 7 with file x/7 and its copy y/7, patient 8 with x/8."""
    with ImportLog(tmp_path) as log:
        for name, patient in {"x/7": "7", "y/7": "7", "x/8": "8"}.items():
            identifiers = PSEUDONYMS.of("patient", patient), PSEUDONYMS.of("accession", f"A{patient}")
            log.mark_seen(file_id(name))
            uids = PSEUDONYMS.of("instance", f"2.25.1{patient}"), PSEUDONYMS.of("study", f"2.25.2{patient}")
            log.record(file_id(name), "", Imported("", *identifiers, f"c{patient}", *uids, "", {}, {}, ()))
        yield log


@pytest.fixture
def table(tmp_path):
    def read(text, name="labels.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_label_table(str(tmp_path / name), PSEUDONYMS, ROOT)

    return read


def labels_of(joined, log):
    return {row.patient: joined.label_of(row) for row in log.accepted()}


@pytest.mark.parametrize(
    "text",
    [
        "patient_id,label\n7,ill\n",
        "Label;Accession\nill;A7\n",
        "AccessionNumber,label\nA7,ill\n",
        "StudyInstanceUID,label\n2.25.27,ill\n",
        "SOP Instance UID,label\n2.25.17,ill\n",
        'patient_id,label\n="7",ill\n',
        "patient_id,label\n\ufeff7\u200b,ill\n",
        "file,label\nx/7,ill\n",
        "file,label\nx\\7,ill\n",
        "file,label\n./x/7,ill\n",
        "file,label\n.\\x\\7,ill\n",
        "file,label\n/archive/x/7,ill\n",
    ],
)
def test_labels_by_a_tag_or_by_file(table, log, text):
    joined = table(text).join(log)

    ill, other = PSEUDONYMS.of("patient", "7"), PSEUDONYMS.of("patient", "8")
    assert labels_of(joined, log) == {ill: "ill", other: "unlabelled"}
    assert (joined.unused, joined.unlabelled) == ((), (file_id("x/8"),))


def test_without_a_table_every_image_has_the_given_label(log):
    joined = read_label_table(None, PSEUDONYMS, ROOT).join(log, "normal")

    assert set(labels_of(joined, log).values()) == {"normal"}
    assert joined.unlabelled == ()


def test_labels_stay_when_a_later_run_has_no_table_and_go_with_the_next_table(table, log):
    """The second run of a person who adds files: `--labels` left out is no decision to drop labels."""
    ill, other = PSEUDONYMS.of("patient", "7"), PSEUDONYMS.of("patient", "8")
    table("file,label\ny/7,ill\n").join(log)

    without = read_label_table(None, PSEUDONYMS, ROOT).join(log)

    assert labels_of(without, log) == {ill: "ill", other: "unlabelled"}
    assert without.unlabelled == (file_id("x/8"),)
    table("patient_id,label\n8,normal\n").join(log)
    assert labels_of(read_label_table(None, PSEUDONYMS, ROOT).join(log), log) == {ill: "unlabelled", other: "normal"}


def test_an_excel_file_is_a_table_of_labels(tmp_path, log):
    book = openpyxl.Workbook()
    for row in (["Patient ID", "label"], [7, "ill"], [9, "normal"]):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")

    joined = read_label_table(str(tmp_path / "labels.xlsx"), PSEUDONYMS, ROOT).join(log)

    assert labels_of(joined, log)[PSEUDONYMS.of("patient", "7")] == "ill"
    assert [row.key for row in joined.unused] == ["9"]


@pytest.mark.parametrize("name", ["x/7", "y/7"])
def test_a_label_may_name_any_of_the_copies_of_an_image(table, log, name):
    joined = table(f"file,label\n{name},ill\n").join(log)

    assert sorted(labels_of(joined, log).values()) == ["ill", "unlabelled"]
    assert joined.unused == ()


def test_copies_with_different_labels_are_an_error_that_names_the_rows(table, log):
    with pytest.raises(InputError, match="rows 1 and 3 give copies of one image different labels"):
        table("file,label\nx/7,ill\nx/8,ill\ny/7,normal\n").join(log)


def test_the_two_forms_of_a_letter_are_one(table, log):
    letter = unicodedata.normalize("NFD", "M\u00fcller")
    identifiers = PSEUDONYMS.of("patient", letter), ""
    log.record(file_id("m"), "", Imported("", *identifiers, "cm", "", "", "", {}, {}, ()))

    joined = table("patient_id,label\nM\u00fcller,ill\n").join(log)

    assert joined.unused == ()


def test_what_does_not_join_is_listed_for_the_owner_of_the_key(table, log, tmp_path):
    joined = table("patient_id,label\n7,ill\n=9,normal\n").join(log)

    joined.write_rest(tmp_path / "rest.csv")

    with (tmp_path / "rest.csv").open() as stream:
        found = list(csv.reader(stream))
    assert found[1:] == [["row without image", "2", "'=9", ""], ["image without row", "", "", file_id("x/8")]]


@pytest.mark.parametrize(
    ("theirs", "ours", "cure"),
    [
        (["12", "13"], ["0012", "0013"], "2 would join if zeros in front are left out"),
        (["pat1"], ["PAT1"], "1 would join if capitals and small letters are the same"),
        (["PAT 1", "x"], ["PAT-1"], "1 would join if blanks and signs are left out"),
        (["1.dcm"], ["2019/a/1.dcm"], "1 would join if folders are left out"),
        (["c:\\scans\\1.dcm"], ["1.dcm"], "1 would join if folders are left out"),
        (["a/1"], ["a/1.dcm"], "1 would join if suffixes are left out"),
        (["2.25.99"], ["2.25.98"], "Take the keys from the files, or choose another key column"),  # no suffixes
        (["\uff11\uff12"], ["12"], "1 would join if the forms of Unicode are the same"),
        (["scans/0012.DCM"], ["12"], "1 would join if folders, suffixes, signs, capitals and zeros"),
        (["12"], ["99"], "Take the keys from the files, or choose another key column"),
        (["12"], [], "Take the keys from the files, or choose another key column"),
    ],
)
def test_when_nothing_joins_the_error_shows_both_sides_and_the_cure(table, log, theirs, ours, cure):
    text = "patient_id,label\n" + "".join(f"{key},ill\n" for key in theirs)

    with pytest.raises(InputError, match=r"none of its \d keys in column 'patient_id' is that of an image") as error:
        table(text).join(log).check(ours)

    assert cure in str(error.value)
    assert all(repr(key) in str(error.value) for key in theirs + ours)


def test_the_cure_of_what_is_left_over_is_told(table, log):
    joined = table("patient_id,label\n7,ill\n12,ill\n").join(log)

    assert joined.check(["0012", "5"]).startswith("1 would join if zeros in front are left out")
    assert joined.check(["5"]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,diagnosis\n7,ill\n", "needed are 'label' and exactly one of"),
        ("patient_id,accession,label\n7,A7,ill\n", "exactly one of"),
        ("patient_id,label\n7,ill\n7,normal\n", "row 2: column 'patient_id' was given another label before"),
        ("patient_id,label\n6,ill\n7,\n", "row 2: .*is empty"),
        (
            "patient_id,label\n6,COVID-19\n7,covid 19\n",
            "one name in two spellings, 'COVID-19' in row 1 and 'covid 19' in",
        ),
        ("accession,AccessionNumber,label\nA7,A7,ill\n", "exactly one of"),
        ("patient_id,label\n1.23457E+11,ill\n", "row 1: column 'patient_id' is a number that Excel has rounded"),
        ("patient_id;label\n1,2E+10;ill\n", "row 1: column 'patient_id' is a number that Excel has rounded"),
        ("Labels of 2020,\npatient_id,label\n7,ill\n", "names of columns stand in row 1 below the first line"),
    ],
)
def test_tables_that_do_not_do(table, text, message):
    with pytest.raises(InputError, match=message):
        table(text)


def test_missing_table(tmp_path):
    with pytest.raises(InputError, match="no such table"):
        read_label_table(str(tmp_path / "gone.csv"), PSEUDONYMS, ROOT)
