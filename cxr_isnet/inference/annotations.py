"""What radiologists marked in images, from tables: boxes around findings, and scores of the six zones of the lungs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import FloatArray
from cxr_isnet.imaging import PICTURE_FORMATS, is_dicom, open_header
from cxr_isnet.inference.localisation import ZONES, Box
from cxr_isnet.tables import find_file, match_columns, read_table, to_numbers

_BOX_COLUMNS = ("x", "y", "width", "height")
_SIZE_COLUMNS = ("image_width", "image_height")
_ZONE = re.compile(r"(?:.*[\W_])?([A-F])")
_SHOWN = 3


@dataclass(frozen=True)
class Annotations:
    """What a table says of images.

    Attributes:
        table: Of which it was read.
        boxes: Image to its boxes, in shares of the image's sides.
        zones: Image to the scores (6,) of its zones, means over the readers.
        labels: Image to the class of the finding, where the table says it.
    """

    table: str
    boxes: Mapping[str, list[Box]] = field(default_factory=dict)
    zones: Mapping[str, FloatArray] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        """Absolute paths of the images, in the order of the table."""
        return tuple(self.boxes or self.zones)

    def check_join(self, frame: pd.DataFrame) -> None:
        """Whether the table is of a manifest's images.

        Args:
            frame: As `cxr_isnet.manifests.read_manifest` returns it.

        Raises:
            InputError: None of its images is in the manifest; names three of each side.
        """
        ours = set(frame["image"])
        if not ours.intersection(self.images):
            theirs, known = (", ".join(list(names)[:_SHOWN]) for names in (self.images, frame["image"]))
            raise InputError(
                f"{self.table}: none of its {len(self.images)} images is in the manifests. The table names {theirs}; "
                f"the manifests name {known}. Write paths relative to the table's folder in column 'image'"
            )


def read_boxes(path: str) -> Annotations:
    """Reads a table of boxes around findings.

    Args:
        path: A table with the columns `image` (path relative to the table's folder), `x`, `y` (upper left corner),
            `width` and `height`, in pixels of the image as its file has it; or, with columns `image_width` and
            `image_height`, of an image of that size. `label`, a class, says which finding it is. An image may have
            several rows.

    Raises:
        InputError: The table cannot be read, lacks a column, or has a box without area or outside of its image.
    """
    frame, images = _images(path, _BOX_COLUMNS)
    numbers = {name: to_numbers(frame[name], path) for name in _BOX_COLUMNS}
    sized = [name for name in _SIZE_COLUMNS if name in frame.columns]
    if len(sized) == 1:
        raise InputError(f"{path}: has column {sized[0]!r} alone. Give image_width and image_height, or neither")
    sizes = {name: to_numbers(frame[name], path) for name in sized}
    boxes: dict[str, list[Box]] = {}
    for row, image in images.items():
        width, height = (sizes[name][row] for name in _SIZE_COLUMNS) if sizes else _size(image, path)
        shares = [numbers[name][row] / side for name, side in zip(_BOX_COLUMNS, (width, height) * 2, strict=True)]
        left, top, across, down = shares
        if not (across > 0 and down > 0 and left < 1 and top < 1 and left + across > 0 and top + down > 0):
            raise InputError(
                f"{path}: row {row}: no box of an image of {width:g} x {height:g} pixels (width x height). Correct x, "
                "y, width and height, or say in image_width and image_height of which size they count"
            )
        boxes.setdefault(image, []).append((left, top, across, down))
    return Annotations(path, boxes=boxes, labels=_labels(frame, images, path))


def read_zone_scores(path: str) -> Annotations:
    """Reads a table of scores of the six zones of the lungs, as the Brixia score has them.

    Args:
        path: A table with the columns `image` (path relative to the table's folder) and `A` to `F`, of one reader or of
            several, each with a name in front: `S-A`, `J-A`. The scores of readers are averaged. `label`, a class, says
            what is scored.

    Raises:
        InputError: The table cannot be read, lacks a column, names an image twice, or a score is no number.
    """
    frame, images = _images(path, ())
    found = {str(name): _ZONE.fullmatch(str(name)) for name in frame.columns}
    columns = {zone: [name for name, match in found.items() if match and match[1] == zone] for zone in ZONES}
    missing = [zone for zone, names in columns.items() if not names]
    if missing:
        raise InputError(
            f"{path}: no column for zone {', '.join(missing)}; the table has {', '.join(map(repr, frame.columns))}. "
            "Call the columns A to F, or <reader>-A to <reader>-F"
        )
    scores = np.stack(
        [np.mean([to_numbers(frame[name], path) for name in columns[zone]], axis=0) for zone in ZONES], axis=1
    )
    zones: dict[str, FloatArray] = {}
    for (row, image), values in zip(images.items(), scores, strict=True):
        if image in zones or not np.isfinite(values).all():
            why = "names an image again" if image in zones else "lacks a score"
            raise InputError(f"{path}: row {row}: {why}. Correct or drop the row")
        zones[image] = values
    return Annotations(path, zones=zones, labels=_labels(frame, images, path))


def _images(path: str, needed: tuple[str, ...]) -> tuple[pd.DataFrame, dict[int, str]]:
    """The table, and the absolute path of the image of each of its rows."""
    frame = match_columns(read_table(Path(path)), ("image", "label", *needed, *_SIZE_COLUMNS), path)
    missing = [name for name in ("image", *needed) if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(map(repr, missing))} is missing; the table has "
            f"{', '.join(map(repr, frame.columns))}. Rename its columns"
        )
    base = Path(path).resolve().parent
    return frame, {int(row): find_file(base, cell) for row, cell in zip(frame.index, frame["image"], strict=True)}


def _labels(frame: pd.DataFrame, images: Mapping[int, str], path: str) -> dict[str, str]:
    if "label" not in frame.columns:
        return {}
    labels: dict[str, str] = {}
    for row, image in images.items():
        label = str(frame["label"][row])
        if label and labels.setdefault(image, label) != label:
            raise InputError(
                f"{path}: row {row}: gives an image another label than a row before. Make a table for each class"
            )
    return labels


def _size(image: str, path: str) -> tuple[float, float]:
    """Width and height of an image, as its file has it."""
    try:
        if is_dicom(Path(image)):
            with open_header(Path(image)) as header:
                width, height = header.integer("Columns"), header.integer("Rows")
        else:
            with Image.open(image, formats=PICTURE_FORMATS) as picture:
                width, height = picture.size
    except (OSError, InputError) as error:
        raise InputError(f"{path}: image {image} cannot be opened. Correct the path, or drop its rows") from error
    if not width or not height:
        raise InputError(f"{path}: image {image} does not say its size. Say it in image_width and image_height")
    return float(width), float(height)
