"""Reading ahead: the same items in the same order, whatever a file does to the process that reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr_isnet.data import CXRDataset, ImageConfig, make_dataset
from cxr_isnet.inference import files_frame
from cxr_isnet.inference.read_ahead import read_batches


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
