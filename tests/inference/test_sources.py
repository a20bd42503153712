"""A process that reads images for a model: what crashes or hangs there costs one image."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image, read_mask, read_untrusted
from cxr_isnet.inference import Classifier, SourceReader, predict_sources, sources

CRASHES, HANGS = b"crashes", b"hangs"


def png(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 40), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of images that ends its process, or never returns, at certain contents."""
    whole = sources.read_untrusted

    def read(source: bytes, **settings: int) -> object:
        if source == CRASHES:
            os._exit(3)
        if source == HANGS:
            time.sleep(60)
        return whole(source, **settings)

    monkeypatch.setattr(sources, "read_untrusted", read)


def test_an_answer_that_is_no_number_is_an_error_of_its_row(classifier: Classifier) -> None:
    """Weights that are finite, and overflow."""
    with torch.no_grad():
        classifier.network.class_layers.out.weight.fill_(3e38)

    (row,) = predict_sources(classifier, [png(100)]).to_dict("records")

    assert "no number" in row["error"]
    assert row["predicted"] == ""


@pytest.mark.parametrize("read", [read_untrusted, read_image, read_mask])
def test_a_pipe_is_refused_and_not_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")

    with pytest.raises(InputError, match="not a file"):
        read(tmp_path / "a.png")


def test_images_come_in_order_whatever_happens_to_those_between(fragile: None) -> None:
    given = [png(100), CRASHES, InputError("neither"), png(200), HANGS, b"no image", png(50)]

    with SourceReader(ImageConfig(32), seconds=2) as reader:
        items = reader.read(given)
        again = reader.read([png(100)])

    errors = [error for _, error in items]
    assert [bool(error) for error in errors] == [False, True, True, False, True, True, False]
    assert "died" in errors[1]
    assert errors[2] == "neither"
    assert "longer than 2 s" in errors[4]
    assert "the content" in errors[5]
    for place, grey in ((0, 100), (3, 200), (6, 50)):
        expected = prepare_image(np.full((40, 40), grey / 255, np.float32), ImageConfig(32))
        assert torch.equal(items[place][0]["image"], expected)
    assert torch.equal(again[0][0]["image"], items[0][0]["image"])


def test_an_image_that_is_too_large_is_refused_by_the_process() -> None:
    with SourceReader(ImageConfig(32), largest_pixels=40 * 40 - 1) as reader:
        ((_, error),) = reader.read([png(1)])

    assert "pixels" in error
