import numpy as np
import pytest

from cxr_isnet.phantoms import glyphs

MARKS = [glyphs.mark(index) for index in range(glyphs.MARK_COUNT)]


def test_marks_have_similar_areas():
    areas = [mark.sum() for mark in MARKS]

    assert min(areas) >= 20
    assert max(areas) <= 25


def test_marks_differ_in_many_cells():
    for index, one in enumerate(MARKS):
        for other in MARKS[index + 1 :]:
            assert np.abs(one - other).sum() >= 10


@pytest.mark.parametrize("side", [5, 7, 13, 22])
def test_a_resized_glyph_keeps_its_share(side):
    resized = glyphs.resize(glyphs.mark(1), side)

    assert resized.shape == (side, side)
    assert resized.mean() == pytest.approx(glyphs.mark(1).mean(), abs=1e-5)
    assert 0 <= resized.min() <= resized.max() <= 1


@pytest.mark.parametrize("name", glyphs.LETTERS)
def test_letters_fill_the_grid(name):
    assert glyphs.letter(name).shape == (glyphs.GLYPH_SIDE, glyphs.GLYPH_SIDE)
