import numpy as np
import pytest

from cxr_isnet.checks.windows import downsample, downsample_windows, window_boxes
from cxr_isnet.imaging import CELLS, averaging_matrix, normalise


def slow_mean(line: np.ndarray, start: float, end: float) -> float:
    """Mean of a line of pixels from one place to another, by summing up ten thousand points."""
    points = start + (end - start) * (np.arange(10_000) + 0.5) / 10_000
    return float(line[np.floor(points).astype(int)].mean())


@pytest.mark.parametrize(("start", "length"), [(0.0, 1.0), (0.13, 0.61), (0.5, 0.5)])
def test_averaging_is_the_mean_over_equal_cells(start, length):
    line = np.random.default_rng(0).random(40)
    edges = 40 * (start + length * np.arange(7) / 6)

    means = averaging_matrix(start, length, 6, 40) @ line

    np.testing.assert_allclose(means, [slow_mean(line, *edges[cell : cell + 2]) for cell in range(6)], atol=2e-3)


def test_windows_lie_inside_and_the_whole_is_one_of_them():
    boxes = window_boxes()

    assert boxes.min() >= 0
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 1 + 1e-9
    assert (boxes == [0, 0, 1, 1]).all(axis=1).sum() == 1


def test_every_window_is_the_mean_of_its_blocks():
    picture = np.random.default_rng(1).random((128, 128))
    windows, boxes = downsample_windows(picture), window_boxes()
    halves = np.flatnonzero((boxes[:, 2:] == 0.5).all(axis=1) & np.isclose(boxes[:, :2] * 128 % 1, 0).all(axis=1))

    for number in halves:
        left, top = np.rint(boxes[number, :2] * 128).astype(int)
        blocks = picture[top : top + 64, left : left + 64].reshape(CELLS, 4, CELLS, 4).mean(axis=(1, 3)).ravel()
        expected = (blocks - blocks.mean()) / np.linalg.norm(blocks - blocks.mean())
        np.testing.assert_allclose(windows[number], expected, atol=1e-4)
    assert len(halves) >= 4


def test_the_whole_window_is_the_downsampled_image():
    picture = np.random.default_rng(2).random((128, 128))
    whole = int(np.flatnonzero((window_boxes() == [0, 0, 1, 1]).all(axis=1))[0])

    np.testing.assert_allclose(downsample_windows(picture)[whole], downsample(picture[None])[0], atol=1e-5)


def test_flat_vectors_become_zero():
    assert (normalise(np.full((2, 9), 0.3, dtype=np.float32)) == 0).all()
