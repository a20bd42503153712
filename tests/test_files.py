import csv
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.files import (
    atomic_write,
    exclusive,
    file_slug,
    is_empty,
    new_folder,
    output_folder,
    without_apostrophe,
    write_csv,
)


def test_a_file_that_was_written_takes_the_place_of_the_old_one(tmp_path):
    target = tmp_path / "metrics.json"
    target.write_text("old")

    with atomic_write(target) as partial:
        partial.write_text("new")

    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_was_half_written_leaves_the_old_one(tmp_path):
    target = tmp_path / "metrics.json"
    target.write_text("old")

    with pytest.raises(UnicodeEncodeError), atomic_write(target) as partial:
        partial.write_text("ne\ud800", encoding="utf-8")

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Shenzhen No. 3", "Shenzhen_No._3"), ("a/b\\c", "a_b_c"), ("../..", "unnamed"), ("東京 1", "東京_1")],
)
def test_names_become_names_of_files(name, slug):
    assert file_slug(name) == slug


def test_a_folder_that_is_missing_or_empty_is_free(tmp_path):
    assert output_folder(str(tmp_path)) == tmp_path
    assert output_folder(str(tmp_path / "new")) == tmp_path / "new"
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_refused_unless_it_may(tmp_path):
    (tmp_path / "letter.txt").write_text("dear reader")

    with pytest.raises(InputError, match="is a file or not empty: name another folder"):
        output_folder(str(tmp_path))
    assert output_folder(str(tmp_path), may_hold=True) == tmp_path


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "letter.txt").write_text("dear reader")

    with pytest.raises(InputError, match=r"letter\.txt' is a file"):
        output_folder(str(tmp_path / "letter.txt"), may_hold=True)


HOLD = """
import sys, time
from pathlib import Path
from cxr_isnet.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("name", ["folder", "table.csv"])
def test_what_another_process_writes_to_is_refused_until_that_one_is_killed(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / name], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=rf"{name}: another process is writing to it"), exclusive(tmp_path / name):
            pass
        other.kill()
        other.wait()

    with exclusive(tmp_path / name):
        assert output_folder(str(tmp_path / "folder")) == tmp_path / "folder"  # a lock alone leaves it empty


def test_what_this_process_writes_to_is_refused_and_free_afterwards(tmp_path):
    with (
        exclusive(tmp_path),
        exclusive(tmp_path / "another"),
        pytest.raises(InputError, match="another process"),
        exclusive(tmp_path),
    ):
        pass

    with exclusive(tmp_path):
        pass


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "letter.txt").write_text("a file in the place of the folder")

    with pytest.raises(InputError, match="cannot be written: "), exclusive(tmp_path / "letter.txt" / "table.csv"):
        pass


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path):
    (tmp_path / "t.csv").write_text("old")

    with pytest.raises(InputError, match=r"t\.csv: cannot be written: No space"), atomic_write(tmp_path / "t.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(InputError, match="cannot be written: No such file"), atomic_write(tmp_path / "no/t.csv") as new:
        new.write_text("new")

    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "old"


def test_an_error_of_another_file_is_not_one_of_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "t.csv"):
        (tmp_path / "source").read_text()


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''+1"]
"""Texts that spreadsheets run, or would after one apostrophe is removed."""
HARMLESS = ["", "a=b", "-1.5", "+3", "1e-9", "'quoted'", "\udcff", "a\nb"]


@pytest.mark.parametrize("text", [*FORMULAS, *HARMLESS])
def test_cells_that_a_spreadsheet_would_run_are_texts_and_read_back(tmp_path, text):
    write_csv(tmp_path / "t.csv", ["=header", "b"], [(text, 1.5), (None, float("nan"))])

    with (tmp_path / "t.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        header, first, second = csv.reader(stream)
    assert header == ["'=header", "b"]
    assert (without_apostrophe(first[0]), first[1]) == (text, "1.5")
    assert first[0] == (f"'{text}" if text in FORMULAS else text)
    assert second == ["", ""]


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "a" / "out"
    with new_folder(str(out)) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "x").write_text("x")
        assert [path.name for path in out.iterdir() if path.name[0] != "."] == []

    assert sorted(path.name for path in out.iterdir()) == ["part"]
    assert (out / "part" / "x").read_text() == "x"


def test_what_fails_in_a_new_folder_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "x").write_text("x")
        raise KeyError

    with pytest.raises(KeyError), new_folder(str(tmp_path / "a" / "out")) as folder:
        fail(folder)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays_when_what_it_is_for_fails(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyError), new_folder(str(tmp_path / "out")):
        raise KeyError

    assert is_empty(tmp_path / "out")


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_folder_that_was_whole_when_its_process_was_killed_is_whole(tmp_path, moved):
    """Killed after the commit, with some of its entries moved: the next process finishes the move, and keeps them."""
    out = tmp_path / "out"
    (out / ".complete").mkdir(parents=True)
    for number in range(2):
        place = out if number < moved else out / ".complete"
        (place / f"{number}").write_text("whole")

    with pytest.raises(InputError, match="not empty"), new_folder(str(out)):
        pass

    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == ["0", "1"]


def test_what_a_killed_process_left_unfinished_counts_as_nothing(tmp_path):
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "old").write_text("half")

    with new_folder(str(tmp_path)) as folder:
        (folder / "new").write_text("whole")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_a_new_folder_that_cannot_be_written_to_is_told(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(InputError, match="Read-only file system"), new_folder(str(tmp_path / "out")):
        pass


def test_an_output_that_is_a_link_to_itself_is_told(tmp_path):
    (tmp_path / "out").symlink_to("out")

    with pytest.raises(InputError, match="leads nowhere"):
        output_folder(str(tmp_path / "out"))
