import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.layout import by_name, find_layout, first_match, matches, only_match


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "unpacked" / "images").mkdir(parents=True)
    (tmp_path / "unpacked" / "labels.csv").touch()
    return tmp_path


@pytest.mark.parametrize("depth", ["unpacked", "."])
def test_layout_is_found_in_the_folder_or_one_below(folder, depth):
    assert find_layout(folder / depth, ("images", "labels.csv|names.csv"), "set", "") == folder / "unpacked"


def test_layout_is_found_where_an_archive_lay_in_an_archive(folder):
    (folder / "data" / "set").mkdir(parents=True)
    (folder / "unpacked").rename(folder / "data" / "set" / "set")

    assert find_layout(folder, ("images", "labels.csv"), "set", "") == folder / "data" / "set" / "set"


@pytest.mark.parametrize("made", ["manifest_masks", "manifest_rendered"])
def test_folders_that_build_made_are_not_taken_for_the_set(folder, made):
    (folder / "unpacked").rename(folder / made)

    with pytest.raises(InputError, match="not laid out as set is published"):
        find_layout(folder, ("images", "labels.csv"), "set", "")


@pytest.mark.parametrize("kept", ["lung_masks/a.png", "images/a.png"])
def test_hidden_files_are_left_out_and_no_others(tmp_path, kept):
    for name in (kept, "images/._a.png", "__MACOSX/images/a.png", ".Trash/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert list(matches(tmp_path, "**/*.png")) == [tmp_path / kept]


def test_archives_are_named_that_were_not_unpacked(tmp_path):
    (tmp_path / "images_01.tar.gz").touch()
    (tmp_path / "labels.zip").touch()

    with pytest.raises(InputError, match=r"Unpack images_01\.tar\.gz, labels\.zip\. Expected"):
        find_layout(tmp_path, ("images",), "set", "")


def test_the_error_lists_what_is_missing_and_what_is_there(folder):
    with pytest.raises(InputError, match=r"Missing: masks or masks/\*.png. Found: images/, labels.csv"):
        find_layout(folder / "unpacked", ("images", "masks|masks/*.png"), "set", "")


def test_a_long_listing_is_cut(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}.txt").touch()

    with pytest.raises(InputError, match=r"11\.txt and 8 more\. Expected"):
        find_layout(tmp_path, ("images",), "set", "")


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"gone: there is no such folder"):
        find_layout(tmp_path / "gone", ("images",), "set", "")


def test_first_takes_alternatives_in_turn(folder):
    assert first_match(folder, "*.csv|*/*.csv") == folder / "unpacked" / "labels.csv"
    assert first_match(folder, "*.csv") is None


def test_one_match_is_needed_where_one_is_read(folder):
    assert only_match(folder, "*.csv|*/*.csv") == folder / "unpacked" / "labels.csv"
    with pytest.raises(InputError, match=r"one file \*\.csv is needed; found none"):
        only_match(folder, "*.csv")
    (folder / "labels_v2.csv").touch()
    with pytest.raises(InputError, match=r"found labels_v2\.csv, unpacked/labels\.csv\. Keep one release"):
        only_match(folder, "*.csv|*/*.csv")


def test_of_two_files_of_a_name_the_first_counts(tmp_path):
    assert by_name([tmp_path / "b" / "x.png", tmp_path / "a" / "x.png"]) == {"x.png": tmp_path / "a" / "x.png"}
