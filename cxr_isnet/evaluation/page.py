"""What every page is made with: one Jinja environment, one base template and stylesheet, one way to write a number.

The text tables of the terminal write their numbers by the same functions.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from cxr_isnet import __version__
from cxr_isnet.evaluation.interval import Interval
from cxr_isnet.evaluation.metrics import metric_words
from cxr_isnet.files import DISCLAIMER, atomic_write, without_controls

UNDEFINED = "\u2013"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render a template into a file, whole or not at all.

    Args:
        path: of the file; its text is escaped if it ends in `.html`.
        template: name of a file in `templates/`; an HTML page extends `base.html`.
        content: what the template is given, beside `disclaimer` and `version`.
    """
    environment = Environment(  # nosec B701 # a model card is Markdown, which is not escaped; pages are
        loader=PackageLoader("cxr_isnet.evaluation"),
        autoescape=path.suffix == ".html",
        finalize=None if path.suffix == ".html" else markdown_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "interval": interval_text, "p": p_value, "percent": percent}
    environment.filters |= {"words": metric_words, "heading": heading, "listed": listed}
    environment.globals["number_with_interval"] = number_with_interval
    text = environment.get_template(template).render(disclaimer=DISCLAIMER, version=__version__, **content)
    with atomic_write(path) as partial:
        partial.write_text(text.lstrip(), encoding="utf-8")


_IN_MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " ", **{mark: f"\\{mark}" for mark in "\\|[]`*"}}
)


def markdown_text(value: Any) -> str:
    """A value that stands in Markdown as plain text: no HTML, no link or picture, no cell of a table, no line of its
    own."""
    return without_controls(str(value)).translate(_IN_MARKDOWN)


def number(value: float | None) -> str:
    """Three digits after the point; a dash where undefined, which is None in JSON that was read."""
    return UNDEFINED if _undefined(value) else f"{value:.3f}"


def number_with_interval(
    estimate: float | None, low: float | None, high: float | None, *, approximate: bool = False
) -> str:
    """A number and its 95% interval, as `0.812 (0.760 to 0.871)`, or `0.812 (~0.760 to 0.871)` if the interval is only
    approximate; a dash where undefined."""
    if _undefined(estimate):
        return UNDEFINED
    if _undefined(low):
        return f"{number(estimate)} (no interval)"
    return f"{number(estimate)} ({'~' if approximate else ''}{number(low)} to {number(high)})"


def interval_text(found: Interval) -> str:
    """`number_with_interval` of an `Interval`."""
    return number_with_interval(found.estimate, found.low, found.high, approximate=found.approximate)


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{100 * share:.{digits}f}%"


def p_value(value: float | None) -> str:
    """Three digits, or that it is below 0.001; a dash where undefined."""
    if value is None or _undefined(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _undefined(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def heading(text: str) -> str:
    """The text with its first letter as at the beginning of a sentence."""
    return text[:1].upper() + text[1:]


MOST_LISTED = 6


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, of many the first and how many more there are: of 60 hospitals nobody reads all.

    Example:
        >>> listed([f"Ward {number}" for number in range(8)])
        'Ward 0, Ward 1, Ward 2, Ward 3, Ward 4, Ward 5 and 2 more'
    """
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def printable(text: str) -> str:
    """The text for a terminal, `?` in place of what is not printable, as an escape sequence's first letter."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def text_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for the terminal, every column as wide as its widest cell; what is not printable is a `?`."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def outlined(
    picture: Image.Image, mask: npt.NDArray[Any], colour: tuple[int, int, int], *, width: int = 1
) -> Image.Image:
    """The picture in colour, with the outline of a mask drawn along its inside.

    Args:
        picture: of any mode.
        mask: (rows, columns) of 0 and 1, of any size with the picture's proportions.
        colour: of the outline, RGB of 0 to 255.
        width: of the outline, in pixels.
    """
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
    inside = np.asarray(resized) > 127
    pixels = np.array(picture.convert("RGB"))
    pixels[inside & ~ndimage.binary_erosion(inside, iterations=width)] = colour
    return Image.fromarray(pixels)


def figure_uri(figure: Figure, kind: str = "svg") -> Markup:
    """A figure as a data URI, `svg` or `png`; the same bytes for the same figure."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "cxr-isnet"}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return _uri(buffer.getvalue(), "svg+xml" if kind == "svg" else kind)


def image_uri(image: Image.Image) -> Markup:
    """A picture as a data URI in PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return _uri(buffer.getvalue(), "png")


def file_uri(path: Path) -> Markup:
    """A PNG file as a data URI."""
    return _uri(path.read_bytes(), "png")


def _uri(content: bytes, kind: str) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")  # nosec B704 # base64 alone
