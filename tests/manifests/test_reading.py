import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests import read_manifest, read_manifests

PROJECT = Path(__file__).resolve().parents[2]


def test_paths_become_absolute_and_missing_columns_are_added(rows, write_table, tmp_path):
    frame = read_manifest(write_table(rows))

    assert frame["image"].tolist() == [str(tmp_path / f"{name}.png") for name in "abcd"]
    assert frame["mask"].tolist() == [str(tmp_path / "a_mask.png"), "", "", ""]
    assert frame["split"].tolist() == [""] * 4


def test_cells_stay_text_except_age(rows, write_table):
    frame = read_manifest(write_table(rows.assign(age=["34", "", "61.5", "9"], device="007")))

    assert frame["patient_id"].tolist() == ["01", "01", "02", "03"]
    assert frame["device"].tolist() == ["007"] * 4
    assert frame["age"].isna().tolist() == [False, True, False, False]


def test_csv_and_parquet_read_alike(rows, write_table, tmp_path):
    rows.to_parquet(tmp_path / "table.parquet")

    pd.testing.assert_frame_equal(
        read_manifest(tmp_path / "table.parquet"), read_manifest(write_table(rows)), check_dtype=False
    )


@pytest.mark.parametrize("column", ["image", "label", "patient_id", "site"])
def test_missing_column_is_named(rows, write_table, column):
    path = write_table(rows.drop(columns=column))

    with pytest.raises(InputError, match=rf"table\.csv: column '{column}' is missing.*column mapping"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("image", "", r"column 'image' is empty \(row 2: ''"),
        ("patient_id", " ", r"column 'patient_id' is empty \(row 2"),
        ("patient_id", "1,23457E+12", r"column 'patient_id' has lost digits in Excel \(row 2"),
        ("patient_id", "1.234567890123457e+16", r"column 'patient_id' has lost digits in Excel \(row 2"),
        ("image", "gone.png", r"column 'image' names a file that does not exist \(row 2: '.*gone\.png'\)"),
        ("mask", "gone.png", r"column 'mask' names a file that does not exist"),
        ("image", "a.png", r"column 'image' lists the same file more than once \(row 1: .*row 2"),
        ("split", "training", r"column 'split' is none of train, val, test \(row 2: 'training'\)"),
        ("age", "old", r"column 'age' is not a number \(row 2: 'old'\)"),
        ("age", "212", r"column 'age' is not an age"),
        ("sex", "7", r"column 'sex' is none of F, M, O"),
        ("sha256", "abc", r"column 'sha256' is not a SHA-256 digest"),
        ("label", "Normal", r"column 'label' is none of normal, ill \(row 2: 'Normal'\)"),
    ],
)
def test_bad_cell_is_named_with_column_row_and_value(rows, write_table, column, value, message):
    if column not in rows:
        rows[column] = ""
    rows.loc[1, column] = value

    with pytest.raises(InputError, match=r"table\.csv: " + message):
        read_manifest(write_table(rows), classes=["normal", "ill"])


def test_patient_in_two_splits_is_named(rows, write_table):
    path = write_table(rows.assign(split=["train", "val", "train", "val"]))

    with pytest.raises(InputError, match=r"column 'split' puts one patient into two.*'01' in split|01 in split"):
        read_manifest(path)


def test_long_lists_of_bad_rows_are_cut(rows, write_table):
    many = pd.concat([rows] * 3).assign(image=[f"gone{number}.png" for number in range(12)])

    with pytest.raises(InputError, match=r"and 7 more"):
        read_manifest(write_table(many))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scan.jpg", b"\xff\xd8\xff\xe0", r"a JPEG picture"),
        ("empty.csv", b"", r"not a readable table"),
        ("binary.csv", b"image,label\n\xff\xfe\x00,\x80", r"not a readable table"),
        ("header.csv", b"image,label,patient_id,site\n", r"has no rows"),
        ("broken.parquet", b"PAR1 not really", r"not a readable table"),
    ],
)
def test_unreadable_table_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=rf"{name}: .*{message}|{message}"):
        read_manifest(tmp_path / name)


def test_table_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: there is no such table"):
        read_manifest(tmp_path / "gone.csv")


def test_tables_are_joined_and_patients_known_by_site(rows, write_table, tmp_path):
    first = write_table(rows.iloc[:2].assign(split="train", age="40"))
    second = tmp_path / "second.csv"
    rows.iloc[2:].assign(split="val", patient_id="01", site="Birch").to_csv(second, index=False)

    frame = read_manifests([first, second])

    assert frame["site"].tolist() == ["Alder", "Alder", "Birch", "Birch"]
    assert frame["age"].isna().tolist() == [False, False, True, True]


def test_same_image_in_two_tables_names_both(rows, write_table, tmp_path):
    first, second = write_table(rows), tmp_path / "second.csv"
    rows.iloc[:1].to_csv(second, index=False)

    with pytest.raises(InputError, match=r"row 1 of .*table\.csv.*row 1 of .*second\.csv"):
        read_manifests([first, second])


def test_no_tables():
    with pytest.raises(InputError, match="no manifest"):
        read_manifests([])


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "images", "masks"), [("tb_shenzhen", 662, 566), ("tb_montgomery", 138, 138)])
@pytest.mark.usefixtures("published_sets")
def test_real_sets(name, images, masks):
    frame = read_manifest(PROJECT / f"data_manifests/{name}.yaml", classes=["normal", "tuberculosis"])

    assert (len(frame), int((frame["mask"] != "").sum())) == (images, masks)
    assert frame["site"].nunique() == 1


def test_a_table_of_a_german_excel_is_read(rows, tmp_path):
    theirs = rows.assign(age=[45.5, 45.5, 60.25, 7.5]).rename(columns={"patient_id": "Patient ID", "label": "Label"})
    theirs.to_csv(tmp_path / "theirs.csv", sep=";", decimal=",", index=False, encoding="utf-16")
    theirs.to_excel(tmp_path / "theirs.xlsx", index=False)

    found = read_manifest(tmp_path / "theirs.csv")

    assert found["age"].tolist() == [45.5, 45.5, 60.25, 7.5]
    assert found["patient_id"].tolist() == ["01", "01", "02", "03"]
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "theirs.xlsx"), found)


def test_an_image_is_found_in_the_other_unicode_form(rows, tmp_path, write_table):
    """macOS writes file names decomposed, Excel composed."""
    (tmp_path / "a.png").rename(tmp_path / unicodedata.normalize("NFD", "\u00e4.png"))

    found = read_manifest(write_table(rows.replace({"image": {"a.png": "\u00e4.png"}})))

    assert unicodedata.normalize("NFC", found["image"][0]) == str(tmp_path / "\u00e4.png")


@pytest.mark.parametrize(
    ("cell", "read"),
    [("f", "F"), ("Female", "F"), ("weiblich", "F"), ("m", "M"), ("Hombre", "M"), ("", "")],
)
def test_a_sex_may_be_spelt_out(rows, write_table, cell, read):
    assert set(read_manifest(write_table(rows.assign(sex=cell)))["sex"]) == {read}


def test_a_class_has_one_spelling_in_all_tables(rows, tmp_path, write_table):
    with pytest.raises(InputError, match=r"'label' has one name in several spellings .*'ill'.*'ILL'.*one spelling"):
        read_manifest(write_table(rows.assign(label=["ill", "ILL", "well", "well"])))

    for name, label in (("one", "ill"), ("two", "Ill")):
        (tmp_path / f"{name}.png").touch()
        row = {"image": f"{name}.png", "label": label, "patient_id": name, "site": "Alder"}
        pd.DataFrame([row]).to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(InputError, match=r"one\.csv \+ .*two\.csv: column 'label' has one name in several spellings"):
        read_manifests([tmp_path / "one.csv", tmp_path / "two.csv"])
