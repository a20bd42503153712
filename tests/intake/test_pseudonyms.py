import hashlib
import hmac
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.header import Header
from cxr_isnet.intake.pseudonyms import (
    KEY_VARIABLE,
    Pseudonyms,
    is_placeholder,
    load_pseudonyms,
    patient_age,
)

KEY = b"sixteen bytes ok"


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def test_pseudonym_is_the_keyed_hash():
    expected = hmac.new(KEY, b"patient\x0012345", hashlib.sha256).hexdigest()[:16]

    assert Pseudonyms(KEY).of("patient", "12345") == expected


def test_equal_values_of_other_kinds_or_keys_have_other_pseudonyms():
    names = [Pseudonyms(key).of(kind, "1") for key in (KEY, KEY + b"2") for kind in ("patient", "file")]

    assert len(set(names)) == 4


def test_both_separators_of_folders_are_one():
    pseudonyms = Pseudonyms(b"sixteen bytes ok")

    assert pseudonyms.of_file(Path("/a"), "b\\c") == pseudonyms.of_file(Path("/a"), "b/c")


def test_names_of_files_need_not_be_unicode():
    assert Pseudonyms(KEY).of("file", "\udcff.dcm") != Pseudonyms(KEY).of("file", "\udcfe.dcm")


def test_the_key_does_not_show():
    assert KEY.decode() not in repr(Pseudonyms(KEY))


def test_dates_keep_their_distance_within_a_patient_and_move_back_at_most_a_year():
    pseudonyms = Pseudonyms(KEY)

    first, second = (date.fromisoformat(pseudonyms.shift_date(day, "1")) for day in ("20200228", "20200315"))

    assert (second - first).days == 16
    assert 1 <= (date(2020, 2, 28) - first).days <= 365
    assert len({pseudonyms.shift_date("20200228", str(patient)) for patient in range(20)}) > 10


@pytest.mark.parametrize("day", ["", "2020", "20201341", "yesterday", "00010101"])
def test_what_is_no_date_is_left_out(day):
    assert Pseudonyms(KEY).shift_date(day, "1") == ""


def test_a_made_key_is_for_its_owner_only_and_stays(tmp_path):
    first = load_pseudonyms(None, tmp_path)

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert load_pseudonyms(None, tmp_path) == first
    assert len(first.key) >= 32


def test_intakes_that_start_at_once_have_one_key(tmp_path, monkeypatch):
    link = os.link

    def slowly(partial, path):
        time.sleep(0.05)  # long enough for the others to see that there is no key
        link(partial, path)

    monkeypatch.setattr(os, "link", slowly)
    with ThreadPoolExecutor(8) as threads:
        keys = {found.key for found in threads.map(lambda _: load_pseudonyms(None, tmp_path), range(8))}

    assert keys == {(tmp_path / "key").read_bytes().strip()}
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_named_file_goes_before_the_environment(tmp_path, monkeypatch):
    (tmp_path / "mine").write_bytes(KEY + b"\n")
    monkeypatch.setenv(KEY_VARIABLE, "another key of the environment")

    assert load_pseudonyms(str(tmp_path / "mine"), tmp_path).key == KEY
    assert load_pseudonyms(None, tmp_path).key == b"another key of the environment"
    assert not (tmp_path / "key").exists()


def test_a_key_that_is_too_short_or_missing(tmp_path, monkeypatch):
    (tmp_path / "short").write_bytes(b"secret")

    with pytest.raises(InputError, match="a key of 6 bytes"):
        load_pseudonyms(str(tmp_path / "short"), tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load_pseudonyms(str(tmp_path / "gone"), tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(InputError, match=KEY_VARIABLE):
        load_pseudonyms(None, tmp_path)


@pytest.mark.parametrize(
    ("given", "years"),
    [("062Y", 62.0), ("62", 62.0), ("006M", 0.5), ("018M", 1.0), ("095Y", 90.0), ("", None), ("old", None)],
)
def test_age(given, years):
    file = Dataset()
    file.add_new("PatientAge", "LO", given)

    assert patient_age(Header(file)) == years


@pytest.mark.parametrize(
    ("birth", "study", "years"),
    [
        ("19500201", "20200131", 69.0),
        ("19500131", "20200131", 70.0),
        ("1950.01.31", "20200131", 70.0),  # as ACR-NEMA wrote it (PS3.5, 6.2, VR DA)
        ("20191001", "20200131", 0.33),
        ("19200101", "20200131", 90.0),
        ("19000101", "20200131", None),  # an unknown year
        ("20210101", "20200131", None),
        ("19500201", "", None),
        ("", "20200131", None),
        ("1950", "20200131", None),
    ],
)
def test_an_age_that_is_not_given_is_that_between_birth_and_study(birth, study, years):
    file = Dataset()
    for keyword, value in {"PatientBirthDate": birth, "StudyDate": study, "PatientAge": ""}.items():
        file.add_new(keyword, "LO", value)

    assert patient_age(Header(file)) == years


@pytest.mark.parametrize("patient", ["ANONYMOUS", "Anonymized", "anon", "Anonimo", "0000", "XXX", "N/A", "----", "?"])
def test_a_patient_of_no_name_is_a_placeholder(patient):
    assert is_placeholder(patient)


@pytest.mark.parametrize("patient", ["ANON-17", "0012", "X1", "TESTA", "Nada", "UNKNOWN 5"])
def test_a_pseudonym_is_none(patient):
    assert not is_placeholder(patient)
