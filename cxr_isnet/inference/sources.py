"""Images of any origin to a table of answers, as a registered model and its server give it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import LARGEST_PIXELS, UntrustedImage, read_untrusted
from cxr_isnet.inference.classifier import Classifier
from cxr_isnet.inference.heatmap_overlay import blended, overlay, shared_scale
from cxr_isnet.inference.read_ahead import ReadItem, received, sent
from cxr_isnet.inference.scoring import Scores, score

Source = Path | bytes
"""A file, or the content of one."""

PATH_COLUMN = "path"
LONGEST_PATH = 4096
ADULT_YEARS = 18
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_OFF_AXIS = ("lateral", "other")


def as_sources(given: Any) -> list[Source | InputError]:
    """What a caller hands over, as a list of files and contents; an entry that is neither becomes its error.

    Args:
        given: Paths and contents (bytes, or base64 text): one, a list, an array, a Series; or a mapping or DataFrame
            with a column `path`, or with one column whatever its name.

    Raises:
        InputError: A table without such a column, or something that holds no entries.
    """
    if isinstance(given, str | os.PathLike | bytes | bytearray):
        return [_as_source(given)]
    if isinstance(given, Mapping):
        given = pd.DataFrame({name: list(np.atleast_1d(np.asarray(v, dtype=object))) for name, v in given.items()})
    if isinstance(given, pd.DataFrame):
        if PATH_COLUMN not in given.columns and given.shape[1] != 1:
            raise InputError(f"columns {list(map(str, given.columns))}: give a column '{PATH_COLUMN}', or one alone")
        given = given[PATH_COLUMN] if PATH_COLUMN in given.columns else given.iloc[:, 0]
    if isinstance(given, np.ndarray):
        given = given.ravel()
    try:
        return [_as_source(entry) for entry in given]
    except TypeError as error:
        raise InputError(f"input of type {type(given).__name__}: give paths or contents of images") from error


def content_of(text: str) -> bytes | None:
    """The bytes of base64 text that holds a DICOM, PNG or JPEG file; None if it does not, as a path."""
    try:
        content = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return content if content.startswith(_STARTS) or content[128:132] == b"DICM" else None


def _as_source(entry: Any) -> Source | InputError:
    if isinstance(entry, bytes | bytearray | memoryview):
        return bytes(entry)
    if isinstance(entry, os.PathLike):
        return Path(entry)
    if not isinstance(entry, str) or not entry.strip() or "\0" in entry:
        return InputError(f"{entry!r:.40}: neither the path nor the content of an image")
    content = content_of(entry)
    if content is not None:
        return content
    if len(entry) > LONGEST_PATH:
        return InputError(f"a text of {len(entry)} characters: neither a path nor base64 of a DICOM, PNG or JPEG file")
    return Path(entry)


class SourceReader:
    """A process that reads images for a model, so that a decoder that crashes or hangs costs one image.

    A context manager. It reads for one caller at a time; others wait.
    """

    def __init__(self, image: ImageConfig, *, largest_pixels: int = LARGEST_PIXELS, seconds: float = 60.0) -> None:
        """Starts the process.

        Args:
            image: The network's input.
            largest_pixels: A larger image is refused before it is decoded.
            seconds: After which an image that is not read is given up.
        """
        from cxr_isnet.intake import ProcessPool

        self._pool: ProcessPool[tuple[int, Source], bytes] = ProcessPool(
            _ReadSource(image, largest_pixels), 1, timeout=seconds
        )
        self._lock = threading.Lock()

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._pool.__exit__()

    def read(self, sources: Sequence[Source | InputError]) -> list[ReadItem]:
        """The prepared images, or the reasons why there are none, in order."""
        items: list[ReadItem] = [({}, str(source)) for source in sources]
        given = [(place, source) for place, source in enumerate(sources) if not isinstance(source, InputError)]
        with self._lock:
            for (place, _), result in self._pool.results(given):
                items[place] = received(result)
        return items


class _ReadSource:
    """What the process does."""

    def __init__(self, image: ImageConfig, largest_pixels: int) -> None:
        self._image, self._largest_pixels = image, largest_pixels

    def __call__(self, task: tuple[int, Source]) -> bytes:
        return sent(_SourceDataset([task[1]], self._image, self._largest_pixels), 0)


def predict_sources(
    classifier: Classifier,
    sources: Sequence[Source | InputError],
    *,
    calibrated: bool = False,
    heatmap: bool = False,
    batch_size: int = 16,
    reader: SourceReader | None = None,
) -> pd.DataFrame:
    """Answers for images of any origin, a row for each in order; one that cannot be read has the reason in `error`.

    Args:
        classifier: The classifier.
        sources: As `as_sources` gives them.
        calibrated: Gives the probabilities with the classifier's temperature. The decision rests on the network's own.
        heatmap: Adds a column `heatmap`: a PNG, as base64, of the image and what speaks for and against `predicted`.
        batch_size: Images at a time.
        reader: Process that reads the images; None reads them in this one.

    Returns:
        `path` (of content, its SHA-256), `probability_<class>`, `predicted` (the most probable class), `decision` (the
        class by the shipped threshold), `distance` (from the training images, above 1 is far; NaN without a
        reference), `view`, `flags` (reasons for manual review, as intake's), `warnings` (why the model may not be made
        for this image), `provenance` (JSON; of DICOM), `error`.
    """
    draw = _heatmap_png if heatmap else None
    scores = score(
        classifier,
        _SourceDataset(sources, classifier.image) if reader is None else _ReadItems(reader.read(sources)),
        batch_size=batch_size,
        explainer=classifier.explainer() if heatmap else None,
        distances=True,
        draw=draw,
    )
    shown = scores.probabilities(classifier.temperature if calibrated else 1.0)
    table = pd.DataFrame({PATH_COLUMN: pd.Series([_name_of(source) for source in sources], dtype="str")})
    for index, name in enumerate(classifier.classes):
        table[f"probability_{name}"] = shown[:, index]
    return table.assign(**_columns(classifier, scores)).assign(**({"heatmap": scores.heatmaps} if heatmap else {}))


def _columns(classifier: Classifier, scores: Scores) -> dict[str, Any]:
    own = scores.probabilities()
    most = _class_names(classifier, np.where(np.isnan(own), -1, own).argmax(1), scores)
    decided = _class_names(classifier, classifier.decide(np.where(np.isnan(own), -1, own)), scores)
    about = [entry or _About() for entry in scores.about]
    warnings = [
        "; ".join([*entry.warnings, *_distance_warning(distance)])
        for entry, distance in zip(about, scores.distances, strict=True)
    ]
    return {
        "predicted": most,
        "decision": decided,
        "distance": scores.distances,
        "view": pd.Series([entry.view for entry in about], dtype="str"),
        "flags": pd.Series([entry.flags for entry in about], dtype="str"),
        "warnings": pd.Series(warnings, dtype="str"),
        "provenance": pd.Series([entry.provenance for entry in about], dtype="str"),
        "error": pd.Series(scores.errors, dtype="str"),
    }


STRANGE_DISTANCE = 1.5
"""Beyond it lie hips, legs, teeth, noise and negatives, and 4 to 21% of the chest X-rays of hospitals not trained on:
measured with one network (docs/results.md, "Images unlike those of training")."""


def _distance_warning(distance: float) -> list[str]:
    """What a distance from the training images says; nothing up to 1, which 99% of in-domain images keep."""
    if not distance > 1:
        return []
    measured = f"{distance:.1f} times the distance that 99% of in-domain images keep"
    if distance > STRANGE_DISTANCE:
        return [
            f"far from the training images ({measured}): not a chest X-ray, not upright, or of a very different device"
        ]
    return [f"unlike the training images ({measured}), as most images of other hospitals are"]


def _class_names(classifier: Classifier, indices: npt.NDArray[np.int64], scores: Scores) -> pd.Series:
    names = ["" if error else classifier.classes[i] for i, error in zip(indices, scores.errors, strict=True)]
    return pd.Series(names, dtype="str")


def _name_of(source: Source | InputError) -> str:
    if isinstance(source, bytes):
        return f"sha256:{hashlib.sha256(source).hexdigest()}"
    return "" if isinstance(source, InputError) else str(source)


@dataclass(frozen=True)
class _About:
    """What is known of an image beside its pixels."""

    view: str = ""
    flags: str = ""
    provenance: str = ""
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: UntrustedImage) -> _About:
        warnings = []
        if found.age is not None and found.age < ADULT_YEARS:
            warnings.append(f"child of {found.age:.1f} years")
        if found.provenance is None:
            return cls(warnings=tuple(warnings))
        cells = found.provenance.cells()
        if cells["view"] in _OFF_AXIS:
            warnings.append(f"not a frontal view ({cells['view']})")
        return cls(cells["view"], cells["flags"], json.dumps(cells), tuple(warnings))


class _SourceDataset(Dataset[dict[str, Any]]):
    def __init__(
        self, sources: Sequence[Source | InputError], image: ImageConfig, largest_pixels: int = LARGEST_PIXELS
    ) -> None:
        self._sources, self._image, self._largest_pixels = sources, image, largest_pixels

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, place: int) -> dict[str, Any]:
        source = self._sources[place]
        if isinstance(source, InputError):
            raise source
        found = read_untrusted(source, largest_pixels=self._largest_pixels)
        return {"image": prepare_image(found.image, self._image), "about": _About.of(found)}


class _ReadItems(Dataset[dict[str, Any]]):
    """Items that another process has read."""

    def __init__(self, items: Sequence[ReadItem]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> dict[str, Any]:
        item, error = self._items[place]
        if error:
            raise InputError(error)
        return item


def _heatmap_png(image: Tensor, relevance: Tensor) -> str:
    """The image under its map, red for and blue against, scaled by the 99.5th percentile; a PNG as base64."""
    values, stream = relevance.numpy(), io.BytesIO()
    Image.fromarray(blended(image.numpy(), overlay(values, shared_scale([values])))).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
