"""Stores: every file is read once, what comes out is what went in, and nothing half-written is taken for whole."""

import logging
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr_isnet.data import FolderStore, ImageConfig, MemoryStore, check_files, make_store
from cxr_isnet.data.image_store import ABANDONED_S
from cxr_isnet.data.pairs import read_resized
from cxr_isnet.errors import InputError

SMALL = ImageConfig(size=35)  # whose mask does not fill its last byte


@pytest.fixture
def reads(monkeypatch):
    """The paths that were read, in order."""
    found = []

    def counted(image, mask, config):
        found.append((image, mask))
        return read_resized(image, mask, config)

    monkeypatch.setattr("cxr_isnet.data.image_store.read_resized", counted)
    return found


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    return MemoryStore(SMALL) if request.param == "memory" else FolderStore(SMALL, tmp_path / "kept")


@pytest.fixture
def pair(phantoms):
    return phantoms["image"][0], phantoms["mask"][0]


def same(one, other):
    return torch.equal(one.image, other.image) and torch.equal(one.mask, other.mask)


def entries(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_what_is_kept_is_bit_for_bit_what_was_read(store, phantoms):
    for image, mask in zip(phantoms["image"], phantoms["mask"], strict=True):
        read = read_resized(image, mask, SMALL)
        for _ in range(2):
            kept = store.pair(image, mask)

            assert same(kept, read)
            assert (kept.image.dtype, kept.mask.dtype) == (torch.float32, torch.float32)


def test_a_pair_is_read_once(store, pair, reads):
    for _ in range(3):
        store.pair(*pair)

    assert reads == [pair]


def test_an_image_without_a_mask_is_another_pair(store, pair):
    assert store.pair(pair[0], "").mask is None
    assert store.pair(*pair).mask is not None
    assert store.pair(pair[0], "").mask is None


def test_a_file_that_cannot_be_read_is_an_error_each_time(store, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"bad")

    for path in (tmp_path / "bad.png", tmp_path / "missing.png"):
        for _ in range(2):
            with pytest.raises(InputError, match=path.name):
                store.pair(str(path), "")


def test_checking_files_fills_a_store(store, phantoms, reads):
    check_files(phantoms, store.pair)
    check_files(phantoms, store.pair)

    assert sorted(reads) == sorted(zip(phantoms["image"], phantoms["mask"], strict=True))


def test_a_kept_pair_takes_half_of_what_two_float_tensors_take(pair, tmp_path):
    FolderStore(SMALL, tmp_path).pair(*pair)

    (entry,) = entries(tmp_path)
    assert entry.stat().st_size <= (4 + 1 / 8) * SMALL.size**2 + 8


def test_what_does_not_fit_into_memory_is_read_each_time_and_said(phantoms, reads, monkeypatch, caplog):
    bytes_each = 4 * SMALL.size**2 + -(-(SMALL.size**2) // 8)
    monkeypatch.setattr("cxr_isnet.data.image_store._memory", lambda: 2 * 2.5 * bytes_each)
    store = MemoryStore(SMALL)

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            check_files(phantoms, store.pair)

    assert len(reads) == len(phantoms) + len(phantoms) - 2
    assert [record.getMessage().split(" images")[0] for record in caplog.records] == ["memory: 2"]


def test_processes_that_share_a_folder_read_a_file_once(pair, tmp_path, reads):
    FolderStore(SMALL, tmp_path).pair(*pair)

    assert same(FolderStore(SMALL, tmp_path).pair(*pair), read_resized(*pair, SMALL))
    assert reads == [pair]


def test_a_file_that_was_replaced_is_read_anew_though_its_size_and_time_are_the_old_ones(
    write_picture, tmp_path, reads
):
    path = write_picture("a.png", np.full((40, 40), 90))
    before = os.stat(path)
    FolderStore(SMALL, tmp_path / "kept").pair(path, "")
    write_picture("a.png", np.full((40, 40), 91))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    found = FolderStore(SMALL, tmp_path / "kept").pair(path, "")

    assert os.stat(path).st_size == before.st_size
    assert found.image.mean() == pytest.approx(91 / 255)
    assert len(reads) == 2


def test_a_copy_of_a_file_needs_no_second_reading(write_picture, tmp_path, reads):
    store = FolderStore(SMALL, tmp_path / "kept")
    for name in ("a.png", "b.png"):
        store.pair(write_picture(name, np.eye(40) * 255), "")

    assert len(reads) == 1


@pytest.mark.parametrize("changed", ["size", "code"])
def test_another_size_and_another_version_of_the_code_have_entries_of_their_own(
    changed, pair, tmp_path, reads, monkeypatch
):
    FolderStore(SMALL, tmp_path).pair(*pair)
    if changed == "code":
        monkeypatch.setattr("cxr_isnet.data.image_store._decoding", lambda: "of another version")

    config = ImageConfig(size=40) if changed == "size" else SMALL
    found = FolderStore(config, tmp_path).pair(*pair)

    assert same(found, read_resized(*pair, config))
    assert len(reads) == 2


def test_equalization_comes_later_and_shares_what_is_kept(pair, tmp_path, reads):
    for equalize in (True, False):
        FolderStore(ImageConfig(35, equalize), tmp_path).pair(*pair)

    assert len(reads) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "zeros at the end", "a bit"])
def test_an_entry_that_is_damaged_is_read_anew_and_mended(damage, pair, tmp_path, reads):
    FolderStore(SMALL, tmp_path).pair(*pair)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    flipped = bytearray(whole)
    flipped[700] ^= 4
    spoiled = {
        "empty": b"",
        "cut": whole[:-1],
        "longer": whole + b"\0",
        "zeros at the end": whole[:2000] + bytes(len(whole) - 2000),
        "a bit": bytes(flipped),
    }
    entry.write_bytes(spoiled[damage])

    found = FolderStore(SMALL, tmp_path).pair(*pair)

    assert same(found, read_resized(*pair, SMALL))
    assert len(reads) == 2
    assert entry.read_bytes() == whole


def test_a_kill_while_an_entry_is_written_leaves_none_and_what_it_left_is_removed_in_time(
    pair, tmp_path, monkeypatch, reads
):
    def killed(*_):
        raise SystemExit  # as a signal would end it between writing and naming the file

    with monkeypatch.context() as patch:
        patch.setattr("cxr_isnet.data.image_store.os.replace", killed)
        patch.setattr("cxr_isnet.data.image_store.Path.unlink", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            FolderStore(SMALL, tmp_path).pair(*pair)
    (left,) = entries(tmp_path)
    assert left.parent.name == "unfinished"

    FolderStore(SMALL, tmp_path)
    assert left.exists()  # another process may be writing it
    os.utime(left, times=(time.time() - 2 * ABANDONED_S,) * 2)
    store = FolderStore(SMALL, tmp_path)

    assert not left.exists()
    assert same(store.pair(*pair), read_resized(*pair, SMALL))


def _fill(folder, frame, start):
    start.wait()
    check_files(frame, FolderStore(SMALL, folder).pair)


def test_two_processes_may_fill_a_folder_at_once(phantoms, tmp_path, reads):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    processes = [context.Process(target=_fill, args=(tmp_path, phantoms, start)) for _ in range(2)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    store = FolderStore(SMALL, tmp_path)
    kept = [store.pair(*row) for row in zip(phantoms["image"], phantoms["mask"], strict=True)]
    assert reads == []  # in this process
    assert all(
        same(found, read_resized(image, mask, SMALL))
        for found, image, mask in zip(kept, phantoms["image"], phantoms["mask"], strict=True)
    )


def test_a_folder_that_cannot_be_written_to_is_named(pair, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match=r"file: cannot be written"):
        FolderStore(SMALL, tmp_path / "file")


def test_settings_choose_the_store(tmp_path):
    assert make_store(SMALL, cache=False) is None
    assert isinstance(make_store(SMALL), MemoryStore)
    assert isinstance(make_store(SMALL, folder=str(tmp_path)), FolderStore)
