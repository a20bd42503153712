import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.files import atomic_write, file_slug, output_folder


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
