import numpy as np

from cxr_isnet.checks.windows import CELLS, normalised, shrunk, shrunk_windows, window_boxes


def test_windows_lie_inside_and_the_whole_is_one_of_them():
    boxes = window_boxes()

    assert boxes.min() >= 0
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 1 + 1e-9
    assert (boxes == [0, 0, 1, 1]).all(axis=1).sum() == 1


def test_every_window_is_the_mean_of_its_blocks():
    picture = np.random.default_rng(1).random((128, 128))
    windows, boxes = shrunk_windows(picture), window_boxes()
    halves = np.flatnonzero((boxes[:, 2:] == 0.5).all(axis=1) & np.isclose(boxes[:, :2] * 128 % 1, 0).all(axis=1))

    for number in halves:
        left, top = np.rint(boxes[number, :2] * 128).astype(int)
        blocks = picture[top : top + 64, left : left + 64].reshape(CELLS, 4, CELLS, 4).mean(axis=(1, 3)).ravel()
        expected = (blocks - blocks.mean()) / np.linalg.norm(blocks - blocks.mean())
        np.testing.assert_allclose(windows[number], expected, atol=1e-4)
    assert len(halves) >= 4


def test_the_whole_window_is_the_shrunk_picture():
    picture = np.random.default_rng(2).random((128, 128))
    whole = int(np.flatnonzero((window_boxes() == [0, 0, 1, 1]).all(axis=1))[0])

    np.testing.assert_allclose(shrunk_windows(picture)[whole], shrunk(picture[None])[0], atol=1e-5)


def test_flat_vectors_become_zero():
    assert (normalised(np.full((2, 9), 0.3, dtype=np.float32)) == 0).all()
