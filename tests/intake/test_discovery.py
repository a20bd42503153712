import inspect
import os
import sys
import zipfile
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import Header
from cxr_isnet.intake import discovery
from cxr_isnet.intake.discovery import find_files, resolved_root


def found(root, **settings):
    """Name to reason, "" for a file that is to be opened."""
    return {item.name: item.rejection.reason.value if item.rejection else "" for item in find_files(root, **settings)}


def write_index(path, *names):
    """A DICOMDIR that names files."""
    index = Dataset()
    index.file_meta = FileMetaDataset()
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
    index.FileSetID = "DISC"
    index.DirectoryRecordSequence = []
    for name in names:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = name.split("/")
        index.DirectoryRecordSequence.append(record)
    dcmwrite(path, index, enforce_file_format=True)


def test_a_tree_is_walked_in_the_order_of_names_whatever_the_names(tmp_path):
    for name in ("b/IM0001", "a/z.dcm", "a/y", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    assert list(found(tmp_path)) == ["a/y", "a/z.dcm", "a.txt", "b/IM0001"]


@pytest.fixture
def linked(tmp_path):
    """A root with links to a file and a folder outside, to a file inside, to itself, and to nowhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"x")
    for name, target in {
        "file_out": "../elsewhere/x",
        "folder_out": "../elsewhere",
        "file_in": "a",
        "loop": ".",
        "gone": "nowhere",
    }.items():
        (root / name).symlink_to(target)
    return root


def test_links_out_of_the_root_and_to_folders_are_not_followed_unless_it_is_asked_for(linked):
    inside = {"a": "", "file_in": "", "gone": "unreadable", "loop": "link"}

    assert found(linked) == inside | {"file_out": "link", "folder_out": "link"}
    assert found(linked, follow_links=True) == inside | {"file_out": "", "folder_out/x": ""}


def test_links_that_lead_into_each_other_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
        (tmp_path / name / "link").symlink_to(tmp_path / other)

    names = [item.name for item in find_files(tmp_path, follow_links=True)]

    assert names == ["a/file", "a/link/file", "a/link/link", "b/file", "b/link/file", "b/link/link"]


def test_folders_may_be_nested_deeper_than_calls(tmp_path):
    folder = "d/" * 300
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "x").write_bytes(b"x")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert [item.name for item in find_files(tmp_path)] == [f"{folder}x"]
    finally:
        sys.setrecursionlimit(limit)


def test_members_of_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.ZIP", "w") as archive:
        for name in ("st/1", "st/0", "DICOMDIR", "inner.zip"):
            archive.writestr(name, b"x")
        archive.mkdir("empty")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("st/0", b"another")
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 and no more")

    assert found(tmp_path) == {
        "export.ZIP!DICOMDIR": "index",
        "export.ZIP!inner.zip": "archive",
        "export.ZIP!st/0": "",
        "export.ZIP!st/1": "",
        "torn.zip": "archive",
    }


def test_members_have_slashes_and_may_lack_a_name(tmp_path):
    """Backslashes, against APPNOTE 4.4.17.1, are what older .NET writes; and no name at all."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("st\\1", "st\\DICOMDIR", "empty\\", ""):
            member = zipfile.ZipInfo("x")
            member.filename = name
            archive.writestr(member, b"x")

    assert found(tmp_path) == {"a.zip!": "", "a.zip!st/1": "", "a.zip!st/DICOMDIR": "index"}


def test_members_that_cannot_be_unpacked_are_rejected(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("locked", b"x")
    content = (tmp_path / "a.zip").read_bytes()
    at = content.rindex(b"PK\x01\x02")  # the entry of `locked` in the central directory
    (tmp_path / "a.zip").write_bytes(content[: at + 8] + b"\x01" + content[at + 9 :])  # the flag of encryption

    assert found(tmp_path) == {"a.zip!locked": "archive"}


def test_files_that_a_dicomdir_names_but_that_are_missing_are_rejected(tmp_path):
    (tmp_path / "disc/IMAGES").mkdir(parents=True)
    (tmp_path / "disc/IMAGES/A1").write_bytes(b"x")
    write_index(tmp_path / "disc/DICOMDIR", "IMAGES/A1", "IMAGES/A2")

    expected = {"disc/DICOMDIR": "index", "disc/IMAGES/A2": "missing", "disc/IMAGES/A1": ""}
    assert found(tmp_path) == expected
    assert found(tmp_path / "disc/DICOMDIR") == {name.removeprefix("disc/"): expected[name] for name in expected}


def test_files_of_a_dicomdir_are_found_whatever_their_case(tmp_path):
    for name in ("images/ct1", "Images/ct1", "images/im2.;1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    write_index(tmp_path / "dicomdir", "IMAGES/CT1", "IMAGES/IM2", "IMAGES/IM3")

    missing = [name for name, reason in found(tmp_path).items() if reason == "missing"]

    assert missing == ["IMAGES/IM3"]


@pytest.mark.parametrize(
    "name", ["N" * 300, "A/" * 3000 + "A", "../../etc/passwd", "/etc/passwd", "a\0b", ".", "\ud83d"]
)
def test_whatever_a_dicomdir_names_ends_in_the_list(tmp_path, monkeypatch, name):
    (tmp_path / "IM1").write_bytes(b"x")
    monkeypatch.setattr(Header, "items", lambda *_: [SimpleNamespace(texts=lambda _: tuple(name.split("/")))])
    write_index(tmp_path / "DICOMDIR", "IM1")

    assert found(tmp_path) == {"DICOMDIR": "index", name: "missing", "IM1": ""}


def test_a_container_that_stops_its_process_stops_nothing_else(tmp_path, monkeypatch):
    for name in ("a.zip", "DICOMDIR", "z"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(discovery, "open_header", lambda _: os._exit(1))
    monkeypatch.setattr(zipfile, "ZipFile", lambda _: bytearray(2**40))

    assert found(tmp_path) == {"DICOMDIR": "crashed", "a.zip": "limit", "z": ""}


def test_a_broken_dicomdir_is_rejected(tmp_path):
    (tmp_path / "DICOMDIR").write_bytes(b"no index")

    assert found(tmp_path) == {"DICOMDIR": "not_dicom"}


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert found(tmp_path) == {"pipe": "not_dicom"}


def test_stamps_change_with_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    before = next(find_files(tmp_path)).stamp
    (tmp_path / "a").write_bytes(b"xy")

    assert next(find_files(tmp_path)).stamp != before


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="neither a folder nor a file"):
        list(find_files(tmp_path / "nowhere"))


def test_a_root_that_is_a_link_to_itself_is_told(tmp_path):
    (tmp_path / "root").symlink_to("root")

    with pytest.raises(InputError, match=r"root .* Correct the path"):
        resolved_root(tmp_path / "root")
