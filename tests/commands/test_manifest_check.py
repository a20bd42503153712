import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.commands.manifest import CheckConfig, check
from cxr_isnet.errors import InputError
from cxr_isnet.phantoms import PhantomHospital, write_hospital


@pytest.fixture(scope="module")
def alder(tmp_path_factory) -> Path:
    """Eight phantoms of one hospital as DICOM files with masks, labels balanced; not to be changed."""
    return write_hospital(tmp_path_factory.mktemp("alder"), PhantomHospital("Alder"), patients=8, seed=1, size=128)


def test_phantoms_are_clean_and_notes_do_not_change_that(alder, tmp_path):
    text, status = check(CheckConfig([str(alder)], json=str(tmp_path / "check.json"), workers=2))

    assert status == 0, text
    assert "Clean" in text
    assert json.loads((tmp_path / "check.json").read_text())["counts"]["info"] > 0


def test_a_spoilt_table_has_every_problem_found_at_once(alder, tmp_path):
    table = pd.read_csv(alder, dtype=str)
    for column in ("image", "mask"):
        table[column] = [str(alder.parent / cell) for cell in table[column]]
    table.loc[0, "image"] = str(tmp_path / "gone.dcm")
    table["split"] = ["train", "val"] * 4
    table.loc[1, "patient_id"] = table.loc[2, "patient_id"]
    Image.new("L", (128, 128)).save(tmp_path / "empty.png")
    table.loc[3, "mask"] = str(tmp_path / "empty.png")
    table.to_csv(tmp_path / "spoilt.csv", index=False)

    text, status = check(CheckConfig([str(tmp_path / "spoilt.csv")], html=str(tmp_path / "check.html"), workers=1))

    assert status == 1
    for words in ("names a file that does not exist", "one patient into two splits", "no pixel is lung"):
        assert words in text
    assert "no pixel is lung" in (tmp_path / "check.html").read_text()


def test_two_tables_with_a_patient_in_common(alder, tmp_path):
    table = pd.read_csv(alder, dtype=str)
    table["image"] = [str(alder.parent / cell) for cell in table["image"]]
    table.drop(columns="mask").iloc[:2].to_csv(tmp_path / "again.csv", index=False)

    text, status = check(CheckConfig([str(alder), str(tmp_path / "again.csv")], workers=1))

    assert status == 1
    assert "lists the same file more than once" in text
    assert "2 patients (2 of Alder) are in more than one table" in text


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", "image,label,patient_id,site\n"])
def test_an_unusable_table_is_status_2_and_is_reported(tmp_path, content):
    table = tmp_path / "bad.csv"
    if content is not None:
        table.write_text(content)

    text, status = check(CheckConfig([str(table)], html=str(tmp_path / "a.html"), json=str(tmp_path / "a.json")))

    assert status == 2
    assert "bad.csv" in text
    assert json.loads((tmp_path / "a.json").read_text())["status"] == 2
    assert "bad.csv" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize("settings", [{"workers": 0}, {"html": "no/such/folder/a.html"}, {"json": "."}])
def test_settings_out_of_range_are_errors(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        CheckConfig(["a.csv"], **settings)


@pytest.mark.parametrize("name", ["html", "json"])
def test_a_table_that_is_checked_is_not_replaced_by_the_report(tmp_path, name):
    (tmp_path / "a.csv").write_text("image\n")

    with pytest.raises(InputError, match=f"{name} is '.*a.csv', a table that is checked: name another file"):
        CheckConfig([str(tmp_path / "a.csv")], **{name: f"{tmp_path}/./a.csv"})
