"""Reading ahead: the same items in the same order, whatever a file does to the process that reads it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr_isnet.data import CXRDataset, ImageConfig, make_dataset
from cxr_isnet.errors import InputError
from cxr_isnet.inference import files_frame
from cxr_isnet.inference.read_ahead import in_batches, read_batches


@pytest.fixture
def paths(phantom_manifest: Path, tmp_path: Path) -> list[str]:
    """Five X-rays, a web page, five X-rays."""
    images = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[:10]
    (tmp_path / "page.dcm").write_text("<html>")
    return [*images[:5], str(tmp_path / "page.dcm"), *images[5:]]


@pytest.fixture
def dataset(paths: list[str]) -> CXRDataset:
    return make_dataset(files_frame(paths), ("a", "b"), ImageConfig(32), labelled=False)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_and_in_whole_batches(workers: int, dataset: CXRDataset, paths: list[str]) -> None:
    batches = list(read_batches(dataset, 4, workers))

    assert [len(batch) for batch in batches] == [4, 4, 3]
    items = [item for batch in batches for item in batch]
    assert [item.get("path") for item, _ in items] == [path if "page" not in path else None for path in paths]
    assert [place for place, (_, error) in enumerate(items) if error] == [5]
    for place in (0, 7):
        assert torch.equal(items[place][0]["image"], dataset[place]["image"])


def test_a_file_that_ends_the_process_is_a_row_with_the_reason(
    dataset: CXRDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CXRDataset.__getitem__

    def crash(self: CXRDataset, place: int) -> Any:
        if place in (2, 10):
            os._exit(139)
        return read(self, place)

    monkeypatch.setattr(CXRDataset, "__getitem__", crash)

    items = [item for batch in read_batches(dataset, 4, 2) for item in batch]

    assert {place: error for place, (_, error) in enumerate(items) if place in (2, 10)} == {
        2: "cannot be read: its process died 2 times",
        10: "cannot be read: its process died 2 times",
    }
    assert [place for place, (item, _) in enumerate(items) if not item] == [2, 5, 10]


def test_who_stops_early_leaves_no_process(dataset: CXRDataset) -> None:
    import multiprocessing

    before = len(multiprocessing.active_children())
    batches = read_batches(dataset, 2, 2)
    next(batches)

    batches.close()

    assert len(multiprocessing.active_children()) == before


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_files_come_in_order_and_in_batches_whichever_is_read_first(count: int, workers: int) -> None:
    def read(path: int) -> int:
        if path % 2 == 0:
            time.sleep(0.002)  # so that a later one is read before it
        return -path

    batches = list(in_batches(read, range(count), 4, workers))

    assert [-value for batch in batches for value in batch] == list(range(count))
    assert [len(batch) for batch in batches] == [4] * (count // 4) + [count % 4] * bool(count % 4)


def test_files_are_read_while_the_batch_before_them_is_at_work_but_not_all_of_them() -> None:
    read: list[int] = []
    batches = in_batches(lambda path: read.append(path), range(100), 2, 1)

    next(batches)
    deadline = time.monotonic() + 5
    while len(read) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)

    assert len(read) == 6  # this batch and two ahead
    batches.close()


def test_a_file_that_cannot_be_read_ends_it_there_and_leaves_the_rest_unread() -> None:
    read: list[int] = []

    def failing(path: int) -> int:
        read.append(path)
        if path == 2:
            raise InputError("2.png: not a readable image")
        return path

    batches = in_batches(failing, range(1000), 2, 2)
    assert next(batches) == [0, 1]
    with pytest.raises(InputError, match=r"2\.png"):
        next(batches)

    assert len(read) < 20
