"""Third-party models: of scikit-learn and PyTorch, of tables and arrays, of logits and labels that hold together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LogisticRegression

from cxr_isnet.audit import AdapterConfig, adapt, load_audited_model
from cxr_isnet.audit.third_party import Activation, PixelLayout
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image

SIZE = 32


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 1, SIZE, SIZE, generator=generator) * torch.tensor([0.2, 0.5, 0.9])[:, None, None, None]


class Model:
    """A model made of a function; its signature is that of a model of MLflow."""

    def __init__(self, predict: Callable[[Any], Any], *inputs: TensorSpec | ColSpec) -> None:
        self.predict = predict
        self.metadata = ModelSignature(Schema(list(inputs))) if inputs else None
        if self.metadata is not None:
            self.metadata.get_input_schema = lambda: self.metadata.inputs


def grey(paths: list[str]) -> np.ndarray[Any, Any]:
    return np.array([float(read_image(path).mean()) for path in paths])


def both(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.stack([1 - values, values], axis=1)


def named(values: np.ndarray[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame(both(values), columns=["probability_a", "probability_b"])


def test_paths_are_given_files_with_the_same_greys(images: torch.Tensor) -> None:
    model = adapt(Model(lambda paths: named(grey(paths))), "theirs", SIZE, AdapterConfig())

    assert model.classes == ("a", "b")
    np.testing.assert_allclose(model.probabilities(images)[:, 1], images.mean((1, 2, 3)), atol=1e-4)


def test_a_table_of_paths_is_given_by_signature_or_by_name(images: torch.Tensor) -> None:
    def predict(table: pd.DataFrame) -> pd.DataFrame:
        return named(grey(list(table["file"])))

    by_signature = adapt(Model(predict, ColSpec("string", "file")), "theirs", SIZE, AdapterConfig())
    by_name = adapt(Model(predict), "theirs", SIZE, AdapterConfig("dataframe:file"))

    for model in (by_signature, by_name):
        np.testing.assert_allclose(model.probabilities(images)[:, 1], images.mean((1, 2, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((-1, 1, 24, 24), (1, 2, 3)), ((-1, 3, 24, 24), (1, 2, 3)), ((-1, 24, 24, 1), (1, 2, 3)),
        ((-1, 24, 24, 3), (1, 2, 3)), ((-1, 24, 24), (1, 2)), ((-1, 576), (1,)),
    ],
)  # fmt: skip
def test_pixels_are_given_as_the_signature_says(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    seen = []

    def predict(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append((pixels.shape[1:], pixels.dtype))
        return both(pixels.mean(axes))

    signature = TensorSpec(np.dtype("float64"), shape)
    model = adapt(Model(predict, signature), "theirs", SIZE, AdapterConfig(classes={"a": "0", "b": "1"}))
    found = model.probabilities(torch.full((2, 1, 24, 24), 0.25))

    assert model.size == 24
    assert set(seen) == {(shape[1:], np.dtype("float64"))}
    np.testing.assert_allclose(found, [[0.75, 0.25]] * 2)


def test_pixels_without_a_signature_have_the_layout_that_is_asked_for(images: torch.Tensor) -> None:
    shapes = []

    def predict(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        shapes.append(pixels.shape[1:])
        return torch.from_numpy(both(pixels.reshape(len(pixels), -1).mean(1)))

    for layout in PixelLayout:
        config = AdapterConfig("pixels", layout, {"a": "0", "b": "1"})
        adapt(Model(predict), "theirs", SIZE, config).probabilities(images)

    n = SIZE
    assert shapes[::2] == [(1, n, n), (3, n, n), (n, n, 1), (n, n, 3), (n, n), (n * n,)]


@pytest.mark.parametrize(
    ("activation", "numbers", "expected"),
    [
        (Activation.SOFTMAX, [0.0, np.log(3.0)], [0.25, 0.75]),
        (Activation.SIGMOID, [0.0, np.log(3.0)], [0.4, 0.6]),
        (Activation.INDEPENDENT, [0.9, 0.1], [0.9, 0.1]),
        (Activation.INDEPENDENT, [0.9, 0.9], [0.5, 0.5]),
        (Activation.NONE, [0.9, 0.1], [0.9, 0.1]),
    ],
)
def test_numbers_become_probabilities(
    activation: Activation, numbers: list[float], expected: list[float], images: torch.Tensor
) -> None:
    """Sigmoids 1/2 and 3/4, divided by their sum, are 0.4 and 0.6."""
    config = AdapterConfig(classes={"a": "first", "b": 1}, activation=activation)
    answer = Model(lambda paths: pd.DataFrame([numbers] * len(paths), columns=["first", "second"]))

    np.testing.assert_allclose(adapt(answer, "theirs", SIZE, config).probabilities(images), [expected] * 3)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_probability_leaves_the_rest_to_the_other_class(shape: tuple[int, ...], images: torch.Tensor) -> None:
    config = AdapterConfig(classes={"healthy": "rest", "ill": "0"})
    model = adapt(Model(lambda paths: grey(paths).reshape(shape)), "theirs", SIZE, config)

    np.testing.assert_allclose(model.probabilities(images), both(images.mean((1, 2, 3)).numpy()), atol=1e-4)
    logit = adapt(
        Model(lambda paths: np.zeros(len(paths)).reshape(shape)), "theirs", SIZE,
        AdapterConfig(classes=config.classes, activation=Activation.SIGMOID),
    )  # fmt: skip
    np.testing.assert_allclose(logit.probabilities(images), 0.5)


def test_maps_of_one_pixel_are_numbers(images: torch.Tensor) -> None:
    """Of a network that is convolutions alone: (B, classes, 1, 1)."""
    config = AdapterConfig(classes={"healthy": "0", "ill": "1"})
    model = adapt(Model(lambda paths: both(grey(paths))[:, :, None, None]), "theirs", SIZE, config)

    np.testing.assert_allclose(model.probabilities(images), both(images.mean((1, 2, 3)).numpy()), atol=1e-4)


def fails(paths: list[str]) -> None:
    raise KeyError("pixel_0")


def ends(paths: list[str]) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("predict", "config", "said"),
    [
        (fails, {}, r"theirs: the model failed on 2 images given as paths, with KeyError: 'pixel_0'.*--adapter.input"),
        (ends, {}, "theirs: the model failed .*, with SystemExit: 3"),
        (lambda p: (both(grey(p)), grey(p)), {}, r"returns tuple.*a column for each class"),
        (lambda p: both(grey(p)), {}, r"returns columns \['0', '1'\].*--adapter.classes"),
        (lambda p: named(grey(p) * np.nan), {}, "4 of the numbers not finite"),
        (lambda p: named(grey(p))[:1], {}, "hold 1 rows"),
        (lambda p: named(grey(p)) * 4 - 2, {}, "sums from .* to .*--adapter.activation to softmax"),
        (lambda p: named(grey(p)) / 2, {}, "must sum to 1"),
        (lambda p: ["ill"] * len(p), {"classes": {"a": "rest", "b": "0"}}, "numbers are needed"),
        (lambda p: named(grey(p)), {"classes": {"a": "0", "b": "score"}}, "'b' is column 'score'; the model returns"),
        (lambda p: np.zeros((len(p), 2, 4, 4)), {}, "returns ndarray.*a column for each class"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_understood_is_refused_before_any_work(
    predict: Callable[[Any], Any], config: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        adapt(Model(predict), "theirs", SIZE, AdapterConfig(**config))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"input": "files"}, "adapter.input is 'files': give paths"),
        ({"input": "dataframe:"}, "dataframe:COLUMN"),
        ({"classes": {"ill": "0"}}, "name two or more classes"),
        ({"classes": {"a": "rest", "b": "rest"}}, "only one class can be the rest"),
        ({"classes": {"a": "1", "b": 1}}, "two classes are the same column"),
        ({"classes": {"a": "rest", "b": "0", "c": "1"}, "activation": Activation.SIGMOID}, "leave no rest"),
        ({"classes": {"a": "rest", "b": "0"}, "activation": Activation.SOFTMAX}, "leave no rest.*activation sigmoid"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        AdapterConfig(**settings)


@pytest.fixture
def sklearn_model(tmp_path: Path) -> str:
    """Ill if an image of 16 x 16 pixels is bright, by scikit-learn, whose `predict` gives labels."""
    pixels = np.random.default_rng(0).random((40, 256)) * np.repeat([0.2, 0.9], 20)[:, None]
    fitted = LogisticRegression().fit(pixels, np.repeat(["normal", "ill"], 20))
    saved = str(tmp_path / "sklearn")
    signature = mlflow.models.infer_signature(pixels, fitted.predict(pixels))
    mlflow.sklearn.save_model(
        fitted, saved, signature=signature, pip_requirements=["scikit-learn"], serialization_format="cloudpickle"
    )
    return saved


def test_a_model_of_scikit_learn_is_refused_unless_trusted_and_asked_for_its_probabilities(
    sklearn_model: str, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(InputError, match=r"runs the code that it carries\. If you trust it, .* --trust true"):
        load_audited_model(sklearn_model, size=SIZE, tracking_uri=uri)

    model, size = load_audited_model(sklearn_model, size=SIZE, tracking_uri=uri, trust=True)

    assert (model.classes, size) == (("ill", "normal"), 16)
    dark, bright = model.probabilities(torch.stack([torch.full((1, 16, 16), v) for v in (0.1, 0.5)]))
    assert dark[1] > 0.9
    assert bright[0] > 0.9


def test_a_network_of_pytorch_is_given_pixels(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(1, 2))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        network[2].bias.zero_()
    saved, uri = str(tmp_path / "torch"), f"sqlite:///{tmp_path}/mlflow.db"
    example = np.zeros((2, 1, 20, 20), dtype=np.float32)
    signature = mlflow.models.infer_signature(example, np.zeros((2, 2), dtype=np.float32))
    mlflow.pytorch.save_model(
        network, saved, signature=signature, pip_requirements=["torch"], serialization_format="pickle"
    )
    config = AdapterConfig(classes={"normal": "0", "ill": "1"}, activation=Activation.SOFTMAX)

    model, size = load_audited_model(saved, size=SIZE, tracking_uri=uri, trust=True, adapter=config)

    assert size == 20
    found = model.probabilities(torch.full((2, 1, 20, 20), 0.5))
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-1.0)), atol=1e-6)
