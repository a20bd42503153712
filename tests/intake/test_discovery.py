import os
import zipfile

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from cxr_isnet.errors import InputError
from cxr_isnet.intake import discovery
from cxr_isnet.intake.discovery import find_files


def found(root):
    """Name to reason, "" for a file that is to be opened."""
    return {item.name: item.rejection.reason.value if item.rejection else "" for item in find_files(root)}


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


def test_linked_folders_are_not_followed_and_dangling_links_are_rejected(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")

    assert found(tmp_path) == {"gone": "unreadable", "loop": "not_dicom"}


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
        "export.ZIP!st/0#2": "",
        "export.ZIP!st/1": "",
        "torn.zip": "archive",
    }


def test_members_that_cannot_be_unpacked_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "MAX_MEMBER_BYTES", 3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("large", b"four")
        archive.writestr("locked", b"x")
    content = (tmp_path / "a.zip").read_bytes()
    at = content.rindex(b"PK\x01\x02")  # the entry of `locked` in the central directory
    (tmp_path / "a.zip").write_bytes(content[: at + 8] + b"\x01" + content[at + 9 :])  # the flag of encryption

    assert found(tmp_path) == {"a.zip!large": "archive", "a.zip!locked": "archive"}


def test_files_that_a_dicomdir_names_but_that_are_missing_are_rejected(tmp_path):
    (tmp_path / "disc/IMAGES").mkdir(parents=True)
    (tmp_path / "disc/IMAGES/A1").write_bytes(b"x")
    write_index(tmp_path / "disc/DICOMDIR", "IMAGES/A1", "IMAGES/A2")

    expected = {"disc/DICOMDIR": "index", "disc/IMAGES/A2": "missing", "disc/IMAGES/A1": ""}
    assert found(tmp_path) == expected
    assert found(tmp_path / "disc/DICOMDIR") == {name.removeprefix("disc/"): expected[name] for name in expected}


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
