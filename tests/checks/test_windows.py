import numpy as np
import pytest

from cxr_isnet.checks.windows import downsample, downsample_windows, intervals
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


def test_every_window_is_the_mean_of_its_blocks():
    picture = np.random.default_rng(1).random((128, 128))
    windows = downsample_windows(picture).reshape(len(intervals()), len(intervals()), -1)
    halves = [n for n, (start, length) in enumerate(intervals()) if length == 0.5 and start * 128 % 1 < 1e-9]

    for row in halves:
        for column in halves:
            top, left = (round(intervals()[n][0] * 128) for n in (row, column))
            blocks = picture[top : top + 64, left : left + 64].reshape(CELLS, 4, CELLS, 4).mean(axis=(1, 3)).ravel()
            expected = (blocks - blocks.mean()) / np.linalg.norm(blocks - blocks.mean())
            np.testing.assert_allclose(windows[row, column], expected, atol=1e-4)
    assert len(halves) >= 2


def test_the_whole_window_is_the_downsampled_image():
    picture = np.random.default_rng(2).random((128, 128))

    np.testing.assert_allclose(downsample_windows(picture)[0], downsample([picture])[0], atol=1e-5)


def test_flat_vectors_become_zero():
    assert (normalise(np.full((2, 9), 0.3, dtype=np.float32)) == 0).all()
