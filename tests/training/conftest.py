"""Configs of trainings that take a second: twelve phantoms, 32 pixels, a network that takes a step in milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr_isnet.data import ImageConfig
from cxr_isnet.devices import Device
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, experiment
from cxr_isnet.training.config import DataConfig

CLASSES = ["normal", "tuberculosis"]


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rank of a distributed training."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_config(phantom_manifest: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """A maker of configs: no tracking, the plain classifier, two epochs, unless told otherwise."""

    def make(output: str = "run", *, data: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
        images = {"training": [str(phantom_manifest)], "classes": CLASSES, "image": ImageConfig(size=32)}
        settings = {
            "method": "densenet121",
            "network": NetworkConfig("densenet_tiny", dropout=0.2),
            "options": {"isnet": {"tuning_epochs": 1}},
            "epochs": 2,
            "batch_size": 4,
            "resamples": 20,
            "device": Device.CPU,
            "tracking": TrackingConfig(enabled=False),
        }
        chosen = DataConfig(**{**images, "validation_fraction": 0.34, **(data or {})})
        return TrainConfig(chosen, str(tmp_path / output), **{**settings, **changes})

    return make


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Raises when the named function is called for the n-th time, after or before it did its work."""

    def arrange(owner: Any, name: str, call: int, *, before: bool = False) -> None:
        original = getattr(owner, name)
        calls: list[int] = []

        def killing(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if before and len(calls) == call:
                raise Killed
            result = original(*args, **kwargs)
            if len(calls) == call:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, killing)

    return arrange


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends with the last epoch."""
    monkeypatch.setattr(experiment, "_finish", lambda *_: {})


def weights(folder: str, file: str = "best.pt") -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, by their place in it."""
    found: dict[str, torch.Tensor] = {}

    def collect(node: Any, key: str) -> None:
        if isinstance(node, torch.Tensor):
            found[key] = node
        elif isinstance(node, dict):
            for name, value in node.items():
                collect(value, f"{key}.{name}")

    collect(torch.load(Path(folder) / file, weights_only=True), "")
    return found


def assert_same(first: Any, second: Any, where: str = "state") -> None:
    """Two nested states are equal bit for bit."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second or first != first, where
