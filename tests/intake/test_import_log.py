"""What the import log keeps between runs."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.rejection import RejectionReason
from cxr_isnet.intake import import_log
from cxr_isnet.intake.import_log import IMPORT_LOG_NAME, ImportLog
from cxr_isnet.intake.importer import Imported, Rejected


def imported(content="c1", patient="p1", instance="i1", image="images/c1.png", study="", birth="", sex=""):
    cells = {"view": "PA", "sex": sex}
    return Imported(image, patient, "", content, instance, study, birth, cells, {"modality": "CR"}, ("polarity",))


def outcomes(log):
    """Ids of the accepted files, and reason or original of the quarantined ones by id."""
    return [row.file_id for row in log.accepted()], {
        row.file_id: row.reason or row.copy_of for row in log.quarantined()
    }


def test_an_outcome_is_found_again_after_the_log_was_closed(tmp_path):
    with ImportLog(tmp_path) as log:
        log.mark_seen("a")
        log.record("a", "stamp", imported())
    with ImportLog(tmp_path) as log:
        assert log.outcome("a") == ("stamp", "images/c1.png")
        assert log.outcome("b") is None
        (row,) = log.accepted()

    assert (row.file_id, row.patient, row.flags) == ("a", "p1", ("polarity",))
    assert row.record == {
        "image": "images/c1.png",
        "manifest": {"view": "PA", "sex": ""},
        "provenance": {"modality": "CR"},
        "flags": ["polarity"],
    }


@pytest.mark.parametrize("reason", RejectionReason)
def test_a_rejection_stands_unless_it_lay_in_the_circumstances(tmp_path, reason):
    with ImportLog(tmp_path) as log:
        log.record("a", "stamp", Rejected(reason, "detail"))
        known = log.outcome("a")

    retried = reason in (RejectionReason.UNREADABLE, RejectionReason.CRASHED, RejectionReason.LIMIT)
    assert known == (None if retried else ("stamp", ""))


def test_files_that_are_gone_keep_their_rows_until_they_are_pruned(tmp_path):
    with ImportLog(tmp_path) as log:
        for name, content in {"a": "c1", "b": "c1", "d": "c2"}.items():
            log.mark_seen(name)
            log.record(name, "", imported(content))
        log.mark_seen("c")
        log.record("c", "", Rejected(RejectionReason.VIEW, "lateral"))
        assert outcomes(log) == (["a", "d"], {"b": "a", "c": "view"})
        assert log.count_gone() == 0
    with ImportLog(tmp_path) as log:
        log.mark_seen("b")
        assert outcomes(log) == (["b", "d"], {"a": "b", "c": "view"})  # the copy that is there stands for both
        assert (log.count_gone(), log.is_gone("a"), log.is_gone("b")) == (3, True, False)

        log.prune()

        assert outcomes(log) == (["b"], {})


def test_two_files_of_one_name_are_told_apart(tmp_path):
    with ImportLog(tmp_path) as log:
        assert (log.mark_seen("a"), log.mark_seen("a"), log.mark_seen("b")) == (True, False, True)


def test_an_image_is_named_by_the_rows_that_are_left(tmp_path):
    with ImportLog(tmp_path) as log:
        log.record("a", "", imported(image="images/c1.png"))

        assert log.names_image("images/c1.png")
        assert not log.names_image("images/c2.png")


def test_a_disk_that_is_full_is_told(tmp_path):
    def fill():
        with ImportLog(tmp_path) as log:
            ((pages,),) = log._database.execute("PRAGMA page_count")
            log._database.execute(f"PRAGMA max_page_count = {pages + 2}")
            for number in range(1000):
                log.record(str(number), "", imported(content=str(number)))

    with pytest.raises(InputError, match=r"full. Free some space.*run again to resume"):
        fill()


@pytest.mark.parametrize(
    ("flag", "marked", "others"),
    [
        ("repeated_instance", {"instance": "i1"}, {"instance": ""}),
        ("shared_study", {"study": "s1", "patient": "p1"}, {"study": "", "patient": "p1"}),
        ("mixed_patient", {"patient": "p1", "birth": "b"}, {"patient": "p1", "birth": ""}),
        ("mixed_patient", {"patient": "p1", "sex": "F"}, {"patient": "p1", "sex": ""}),
    ],
)
def test_what_contradicts_other_files_is_flagged(tmp_path, flag, marked, others):
    other = {"repeated_instance": {}, "shared_study": {"patient": "p2"}, "mixed_patient": {"birth": "c", "sex": "M"}}
    second = marked | {name: value for name, value in other[flag].items() if name in marked}
    for case, pair, found in (("same", [marked, second], 2), ("unknown", [others, others], 0)):
        (tmp_path / case).mkdir()
        with ImportLog(tmp_path / case) as log:
            for number, fields in enumerate(pair):
                log.record(str(number), "", imported(**({"content": str(number), "instance": ""} | fields)))

            assert sum(flag in row.flags for row in log.accepted()) == found


def test_rows_are_sorted_by_patient(tmp_path):
    with ImportLog(tmp_path) as log:
        for name, patient in (("a", "p2"), ("b", "p1"), ("c", "p2")):
            log.mark_seen(name)
            log.record(name, "", imported(content=name, instance="", patient=patient))

        assert outcomes(log)[0] == ["b", "a", "c"]


def test_a_changed_setting_is_named(tmp_path):
    with ImportLog(tmp_path) as log:
        log.check_settings({"format": "png", "dates": "drop"})
        log.check_settings({"format": "png", "dates": "drop"})

        with pytest.raises(InputError, match="was begun with another dates, key"):
            log.check_settings({"format": "png", "dates": "shift", "key": "x"})


def test_an_outcome_outlives_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(import_log, "_COMMIT_INTERVAL", -1)
    (tmp_path / "running").mkdir()
    with ImportLog(tmp_path / "running") as log:
        log.record("a", "stamp", imported())
        shutil.copytree(tmp_path / "running", tmp_path / "killed")  # what is on the disk before the log is closed

    with ImportLog(tmp_path / "killed") as log:
        assert log.outcome("a") == ("stamp", "images/c1.png")


def test_two_intakes_cannot_write_at_once(tmp_path):
    with ImportLog(tmp_path), pytest.raises(InputError, match="locked"):
        ImportLog(tmp_path)


@pytest.mark.parametrize(("name", "message"), [(IMPORT_LOG_NAME, "not a database"), ("log.sqlite", "earlier version")])
def test_a_file_that_is_no_import_log_is_an_error(tmp_path, name, message):
    (tmp_path / name).write_text("no database, but long enough to be looked at by SQLite" * 30)

    with pytest.raises(InputError, match=message):
        ImportLog(tmp_path)


def test_an_import_log_of_an_earlier_version_is_an_error(tmp_path):
    with closing(sqlite3.connect(tmp_path / IMPORT_LOG_NAME)) as database:
        database.execute("CREATE TABLE files (file_id TEXT PRIMARY KEY)")

    with pytest.raises(InputError, match="earlier version"):
        ImportLog(tmp_path)
