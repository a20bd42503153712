"""A third-party MLflow model as a function of images: what it is given, and how its answer becomes probabilities."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc import PyFuncModel
from mlflow.types import TensorSpec
from torch import Tensor

from cxr_isnet.config import spell_by_value
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation import PROBABILITY_PREFIX, SUM_TOLERANCE, FloatArray
from cxr_isnet.imaging import encode_png

PATHS, PIXELS, DATAFRAME = "paths", "pixels", "dataframe:"
REST = "rest"
"""In place of a column: what the other classes leave of 1."""
_LONGEST = 300


class PixelLayout(StrEnum):
    """Axes of an array of pixels: N images, H rows, W columns; 3 channels are alike; `flat` is (N, H W)."""

    N1HW = "n1hw"
    N3HW = "n3hw"
    NHW1 = "nhw1"
    NHW3 = "nhw3"
    NHW = "nhw"
    FLAT = "flat"


class Activation(StrEnum):
    """What turns a model's numbers into probabilities of classes that exclude each other.

    NONE: nothing; they sum to 1.
    SOFTMAX: the numbers are logits.
    SIGMOID: they are logits of labels that may hold together; the sigmoids are divided by their sum.
    INDEPENDENT: they are probabilities of labels that may hold together, and are divided by their sum.
    """

    NONE = "none"
    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    INDEPENDENT = "independent"


_OF_LABELS = (Activation.SIGMOID, Activation.INDEPENDENT)
spell_by_value(PixelLayout, Activation)


@dataclass(frozen=True)
class AdapterConfig:
    """How a model that cxr-isnet has not logged is asked, and its answer read.

    Attributes:
        input: `paths` (a list of PNG files), `pixels` (an array of numbers in [0, 1]) or `dataframe:COLUMN` (a table
            with the paths in that column); null goes by the model's signature, and without one gives paths.
        layout: Of pixels: `n1hw`, `n3hw`, `nhw1`, `nhw3`, `nhw` or `flat`; null goes by the signature, else `n1hw`.
        classes: Class to the column of the answer, or its position from 0; `rest` is what the others leave of 1. Empty
            takes the columns `probability_<class>`, or the classes of a scikit-learn model.
        activation: `none`, `softmax` (logits), `sigmoid` (logits of labels that may hold together) or `independent`
            (probabilities of such labels).
    """

    input: str | None = None
    layout: PixelLayout | None = None
    classes: dict[str, str | int] = field(default_factory=dict)
    activation: Activation = Activation.NONE

    def __post_init__(self) -> None:
        if self.input not in (None, PATHS, PIXELS) and not (
            self.input.startswith(DATAFRAME) and self.input != DATAFRAME
        ):
            raise InputError(f"adapter.input is '{self.input}': give paths, pixels or dataframe:COLUMN")
        if self.classes and len(self.classes) < 2:
            raise InputError(
                f"adapter.classes is {self.classes}: name two or more classes. Of one probability column p, give "
                "{healthy: rest, ill: p}"
            )
        named = [str(column) for column in self.classes.values()]
        if named.count(REST) > 1:
            raise InputError(f"adapter.classes is {self.classes}: only one class can be the rest")
        if len(set(named)) < len(named):
            raise InputError(f"adapter.classes is {self.classes}: two classes are the same column. Name one for each")
        if REST in self.classes.values() and self.activation is Activation.SOFTMAX:
            raise InputError(
                f"adapter.classes is {self.classes} with activation softmax: its numbers share out 1 among themselves "
                "and leave no rest. Name a column for each class; of a single logit, give the activation sigmoid"
            )
        if REST in self.classes.values() and len(self.classes) > 2 and self.activation in _OF_LABELS:
            raise InputError(
                f"adapter.classes is {self.classes} with activation {self.activation.value}: labels that may hold "
                "together leave no rest. Name a column for each class"
            )


@dataclass(frozen=True)
class ThirdPartyModel:
    """A model, ready to be asked.

    Attributes:
        classes: Names of the classes.
        size: Rows and columns of the images that it is given.
        probabilities: Images (B, 1, size, size) float32 in [0, 1] to (B, classes).
    """

    classes: tuple[str, ...]
    size: int
    probabilities: Callable[[Tensor], FloatArray]


def adapt(model: PyFuncModel, name: str, size: int, config: AdapterConfig) -> ThirdPartyModel:
    """A third-party model as a function, tried on two images.

    Args:
        model: As MLflow loads it.
        name: For messages.
        size: Rows and columns of the images; a signature that fixes them goes before.
        config: How it is asked.

    Raises:
        InputError: It fails, or its answer is not understood; the message says what it was given and what it returned.
    """
    form = _Form.of(model, size, config)
    trial = torch.stack([torch.linspace(0, top, form.size).expand(1, form.size, form.size) for top in (1.0, 0.5)])
    first = _asked(model, form, trial, name)
    classes = {label: str(column) for label, column in config.classes.items()} or _own_classes(model, first, name)
    _read(first, classes, config.activation, len(trial), name)
    return ThirdPartyModel(
        tuple(classes),
        form.size,
        lambda images: _read(_asked(model, form, images, name), classes, config.activation, len(images), name),
    )


@dataclass(frozen=True)
class _Form:
    """What a model is given.

    Attributes:
        input: As of `AdapterConfig`, settled.
        layout: Of pixels.
        size: Rows and columns.
        dtype: Of pixels.
        columns: Names of pixels in a table; None for an array.
    """

    input: str
    layout: PixelLayout
    size: int
    dtype: Any = np.float32
    columns: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, model: PyFuncModel, size: int, config: AdapterConfig) -> _Form:
        layout = config.layout or PixelLayout.N1HW
        schema = getattr(getattr(model, "metadata", None), "get_input_schema", lambda: None)()
        specs = [] if schema is None else list(schema.inputs)
        if (config.input in (PATHS, None) and not specs) or (config.input or "").startswith(DATAFRAME):
            return cls(config.input or PATHS, layout, size)
        if len(specs) == 1 and isinstance(specs[0], TensorSpec) and config.input != PATHS:
            found = _layout(tuple(specs[0].shape), size)
            if found is not None:
                return cls(PIXELS, config.layout or found[0], found[1], specs[0].type)
        names = [] if schema is None or schema.is_tensor_spec() else schema.input_names()
        if config.input is None and len(specs) == 1 and not isinstance(specs[0], TensorSpec):
            return cls(f"{DATAFRAME}{names[0]}" if names else PATHS, layout, size)
        side = round(len(names) ** 0.5)
        if len(names) > 1 and side * side == len(names):
            return cls(PIXELS, PixelLayout.FLAT, side, specs[0].type.to_numpy(), tuple(names))
        return cls(config.input or PATHS, layout, size)

    def made(self, images: Tensor, folder: Path) -> Any:
        if self.input == PIXELS:
            pixels = _laid_out(images, self.layout).astype(self.dtype)
            return pixels if self.columns is None else pd.DataFrame(pixels, columns=list(self.columns))
        paths = []
        for number, image in enumerate(images[:, 0].numpy()):
            path = folder / f"{number}.png"
            grey = np.rint(image.clip(0, 1) * 65535).astype(np.uint16)
            path.write_bytes(b"".join(encode_png(grey.shape, [grey])))
            paths.append(str(path))
        return paths if self.input == PATHS else pd.DataFrame({self.input.removeprefix(DATAFRAME): paths})

    def text(self) -> str:
        return f"{self.input} ({self.layout.value}, {self.size} x {self.size})" if self.input == PIXELS else self.input


def _layout(shape: tuple[int, ...], size: int) -> tuple[PixelLayout, int] | None:
    """Layout and size of a signature's shape; None of a shape that is none of images."""
    rest = shape[1:]
    flat = round(abs(rest[0]) ** 0.5) if rest else 0
    if len(rest) == 1:
        return (PixelLayout.FLAT, flat if rest[0] > 0 else size) if rest[0] < 0 or flat**2 == rest[0] else None
    forms = {
        (PixelLayout.N1HW, rest[1:]): rest[0] == 1, (PixelLayout.N3HW, rest[1:]): rest[0] == 3,
        (PixelLayout.NHW1, rest[:2]): rest[-1] == 1, (PixelLayout.NHW3, rest[:2]): rest[-1] == 3,
    }  # fmt: skip
    found = [form for form, fits in forms.items() if len(rest) == 3 and fits]
    found += [(PixelLayout.NHW, rest)] if len(rest) == 2 else []
    if not found:
        return None
    layout, sides = found[0]
    return layout, next((side for side in sides if side > 0), size)


def _laid_out(images: Tensor, layout: PixelLayout) -> np.ndarray[Any, Any]:
    pixels = images.numpy()
    channels = 3 if "3" in layout.value else 1
    pixels = np.repeat(pixels, channels, axis=1)
    if layout in (PixelLayout.NHW1, PixelLayout.NHW3):
        return np.moveaxis(pixels, 1, -1)
    if layout is PixelLayout.NHW:
        return pixels[:, 0]
    return pixels.reshape(len(pixels), -1) if layout is PixelLayout.FLAT else pixels


def _asked(model: PyFuncModel, form: _Form, images: Tensor, name: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        given = form.made(images, Path(folder))
        try:
            answer: Any = model.predict(given)
            raw = _raw(model)
            if getattr(answer, "ndim", 0) == 1 and hasattr(raw, "predict_proba"):
                answer = raw.predict_proba(given)
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}"
            raise InputError(
                f"{name}: the model failed on {len(images)} images given as {form.text()}, with {said[:_LONGEST]}. Say "
                "with --adapter.input paths, pixels or dataframe:COLUMN, and with --adapter.layout, what it takes"
            ) from error
    return _table(answer, name)


def _raw(model: PyFuncModel) -> Any:
    """The model of another library inside; None where MLflow knows none."""
    try:
        return model.get_raw_model()
    except (NotImplementedError, AttributeError):
        return None


def _table(answer: Any, name: str) -> pd.DataFrame:
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu().numpy()
    if isinstance(answer, np.ndarray) and answer.ndim > 2 and set(answer.shape[2:]) == {1}:
        answer = answer.reshape(answer.shape[:2])
    try:
        table = answer if isinstance(answer, pd.DataFrame) else pd.DataFrame(answer)
    except ValueError as error:
        raise InputError(
            f"{name}: the model returns {type(answer).__name__}, {error}; an audit needs a table or array with a row "
            "for each image and a column for each class"
        ) from error
    return table.rename(columns=str)


def _own_classes(model: PyFuncModel, table: pd.DataFrame, name: str) -> dict[str, str]:
    named = [column for column in table.columns if column.startswith(PROBABILITY_PREFIX)]
    if len(named) > 1:
        return {column.removeprefix(PROBABILITY_PREFIX): column for column in named}
    raw = _raw(model)
    learned = [str(entry) for entry in getattr(raw, "classes_", [])]
    if len(learned) > 1 and len(learned) == table.shape[1]:
        return dict(zip(learned, table.columns, strict=True))
    shown = {column: table[column].tolist()[:2] for column in list(table.columns)[:6]}
    raise InputError(
        f"{name}: the model returns columns {list(table.columns)[:12]} (for two images {shown}), none of them named "
        f"'{PROBABILITY_PREFIX}<class>'. Say which is which: --adapter.classes '{{normal: 0, tuberculosis: 1}}', by "
        "name or position, or of one probability '{normal: rest, tuberculosis: 0}'; logits need --adapter.activation"
    )


def _read(table: pd.DataFrame, classes: dict[str, str], activation: Activation, count: int, name: str) -> FloatArray:
    """Probabilities (B, classes) from an answer."""
    sought = {label: column for label, column in classes.items() if column != REST}
    chosen = [_column(table, column, label, name) for label, column in sought.items()]
    try:
        values = np.stack([np.asarray(column, dtype=np.float64) for column in chosen], axis=1)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: columns {list(sought.values())} hold {error}: numbers are needed") from error
    if values.shape[0] != count or not np.isfinite(values).all():
        raise InputError(
            f"{name}: for {count} images the columns {', '.join(sought.values())} hold {values.shape[0]} rows, "
            f"{int((~np.isfinite(values)).sum())} of the numbers not finite. A finite one for each image is needed"
        )
    values = _activated(values, activation)
    if len(sought) < len(classes):
        place = list(classes.values()).index(REST)
        values = np.insert(values, place, 1 - values.sum(1), axis=1)
    if values.min() < -SUM_TOLERANCE or np.abs(values.sum(1) - 1).max() > SUM_TOLERANCE:
        raise InputError(
            f"{name}: the columns {', '.join(sought.values())} hold numbers from {values.min():.3g} to "
            f"{values.max():.3g}, sums from {values.sum(1).min():.3f} to {values.sum(1).max():.3f}: probabilities of "
            "an image must sum to 1. Set --adapter.activation to softmax (logits), sigmoid (logits of labels that may "
            "hold together) or independent (probabilities of such labels)"
        )
    return np.asarray(values.clip(0, 1), dtype=np.float64)


def _activated(values: FloatArray, activation: Activation) -> FloatArray:
    if activation is Activation.SOFTMAX:
        powers = np.exp(values - values.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))
    if activation is Activation.SIGMOID:
        values = 1 / (1 + np.exp(-np.clip(values, -500, 500)))
    if activation is Activation.NONE or values.shape[1] == 1:
        return values
    return np.asarray(values / np.maximum(values.sum(1, keepdims=True), 1e-12))


def _column(table: pd.DataFrame, column: str, label: str, name: str) -> Sequence[Any]:
    if column in table.columns:
        return list(table[column])
    if column.isdigit() and int(column) < table.shape[1]:
        return list(table.iloc[:, int(column)])
    raise InputError(
        f"{name}: adapter.classes says '{label}' is column '{column}'; the model returns {list(table.columns)[:12]}"
    )
