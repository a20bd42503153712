"""What every HTML page is made with: one Jinja environment, one stylesheet, one way to write a number."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from cxr_isnet import __version__
from cxr_isnet.evaluation.interval import Interval
from cxr_isnet.evaluation.metrics import metric_words
from cxr_isnet.files import DISCLAIMER, atomic_write

UNDEFINED = "\u2013"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render a template into a file, whole or not at all.

    Args:
        path: of the file; its text is escaped if it ends in `.html`.
        template: name of a file in `templates/`.
        content: what the template is given, beside `disclaimer` and `version`.
    """
    environment = Environment(
        loader=PackageLoader("cxr_isnet.evaluation"),
        autoescape=path.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "p": p_value,
        "words": metric_words,
        "heading": heading,
    }
    text = environment.get_template(template).render(disclaimer=DISCLAIMER, version=__version__, **content)
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def number(value: float | None) -> str:
    """Three digits after the point; a dash where undefined, which is None in JSON that was read."""
    return f"{value:.3f}" if value is not None and np.isfinite(value) else UNDEFINED


def interval(found: Interval) -> str:
    """Estimate and 95% interval; a dash where undefined."""
    if not np.isfinite(found.estimate):
        return UNDEFINED
    if not np.isfinite(found.low):
        return f"{number(found.estimate)} (no interval)"
    return f"{number(found.estimate)} ({number(found.low)} to {number(found.high)})"


def p_value(value: float) -> str:
    """Three digits, or that it is below 0.001; a dash where undefined."""
    if not np.isfinite(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def heading(text: str) -> str:
    """The text with its first letter as at the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def text_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for the terminal, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def figure_uri(figure: Figure, kind: str = "svg") -> Markup:
    """A figure as a data URI, `svg` or `png`."""
    buffer = io.BytesIO()
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
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
