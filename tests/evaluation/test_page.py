"""What every page is made with: formats of numbers, the base template, outlines."""

import math
import re
from importlib.resources import files

import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure
from PIL import Image

from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.page import (
    figure_uri,
    heading,
    interval_text,
    markdown_text,
    number,
    number_with_interval,
    outlined,
    p_value,
    percent,
    text_columns,
    write_page,
)

TEMPLATES = files("cxr_isnet.evaluation").joinpath("templates")
PAGES = sorted(path.name for path in TEMPLATES.iterdir() if path.name.endswith(".html") and path.name != "base.html")


@pytest.mark.parametrize(
    "text", ["[a](javascript:b)", "![a](https://b)", "<img src=x>", "a|b", "a\n# b", "`a`", "*a*", "a\\[b]", "\x1b[31m"]
)
def test_a_name_in_markdown_is_a_plain_text(text):
    """CommonMark 2.4 and 6: a backslash or an entity before what begins a link, a picture, HTML or code."""
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]`*|]|[<>\n\x1b]", markdown_text(text))


def test_a_figure_is_the_same_bytes_each_time():
    def draw():
        figure = Figure()
        figure.subplots().plot([0, 1], label="a")
        return figure_uri(figure)

    assert draw() == draw()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_extends_the_base_and_brings_no_style_of_its_own(name):
    text = TEMPLATES.joinpath(name).read_text(encoding="utf-8")

    assert text.startswith('{% extends "base.html" %}')
    assert "<style" not in text
    assert "disclaimer" not in text


def test_there_are_six_pages():
    names = ("audit", "check", "comparison", "demo", "evaluation", "explanation")
    assert [f"{name}_report.html" for name in names] == PAGES


def test_a_template_that_names_what_it_was_not_given_leaves_no_page(tmp_path):
    with pytest.raises(UndefinedError):
        write_page(tmp_path / "page.html", "audit_report.html")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((0.81234, 0.7, 0.9), "0.812 (0.700 to 0.900)"),
        ((0.5, math.nan, math.nan), "0.500 (no interval)"),
        ((0.5, None, None), "0.500 (no interval)"),
        ((math.nan, math.nan, math.nan), "\u2013"),
        ((None, None, None), "\u2013"),
    ],
)
def test_a_number_with_its_interval(given, shown):
    assert number_with_interval(*given) == shown
    if None not in given:
        assert interval_text(Interval(*given, IntervalMethod.BCA)) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.04, "0.040"), (0.0009, "< 0.001"), (math.nan, "\u2013"), (None, "\u2013")]
)
def test_a_p_value(value, shown):
    assert p_value(value) == shown


def test_other_formats():
    assert (number(None), number(1.23456)) == ("\u2013", "1.235")
    assert (percent(0.456), percent(0.456, 1)) == ("46%", "45.6%")
    assert heading("AUC of north") == "AUC of north"
    assert heading("macro F1") == "Macro F1"


def test_columns_are_as_wide_as_their_widest_cell():
    assert text_columns([["a", "bb", "c"], ["aaa", "b", ""]]) == ["a    bb  c", "aaa  b"]


@pytest.mark.parametrize("width", [1, 2])
def test_an_outline_runs_along_the_inside_of_a_mask(width):
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 5:15] = True

    pixels = np.asarray(outlined(Image.new("L", (20, 20), 7), mask, (0, 255, 0), width=width))

    drawn = (pixels == (0, 255, 0)).all(axis=-1)
    expected = mask.copy()
    expected[5 + width : 15 - width, 5 + width : 15 - width] = False
    np.testing.assert_array_equal(drawn, expected)
    assert (pixels[~drawn] == 7).all()
