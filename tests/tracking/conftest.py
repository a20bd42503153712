"""A real SQLite store, made once: its tables take seconds to create."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from cxr_isnet.tracking.run import TrackingConfig
from cxr_isnet.tracking.store import experiment_id, open_store

FAKE_MODEL = """
from __future__ import annotations

import json
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class FakeModel(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        with open(context.artifacts["checkpoint"], encoding="utf-8") as file:
            self.probabilities = json.load(file)

    def predict(
        self, context: PythonModelContext, model_input: list[str], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        frame = pd.DataFrame({"path": list(model_input)})
        for name, probability in self.probabilities.items():
            frame[f"probability_{name}"] = probability
        return frame


mlflow.models.set_model(FakeModel())
"""


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tracking URI of a store whose tables exist."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    experiment_id(open_store(uri), uri, "first")
    return uri


@pytest.fixture
def config(store_uri: str, request: pytest.FixtureRequest) -> TrackingConfig:
    """An experiment of the test's own in the store."""
    return TrackingConfig(uri=store_uri, experiment=request.node.name)


@pytest.fixture(autouse=True)
def global_state_untouched(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test leaves MLflow's global tracking URI and active run as they were.

    What the test itself has set through `monkeypatch` is undone first: a variable MLFLOW_TRACKING_URI, or another
    working directory, from which MLflow derives its default URI.
    """
    before = mlflow.is_tracking_uri_set(), mlflow.get_tracking_uri()
    yield
    monkeypatch.undo()
    assert (mlflow.is_tracking_uri_set(), mlflow.get_tracking_uri()) == before
    assert mlflow.active_run() is None


@pytest.fixture
def fake_model(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """A maker of the files of a model that answers what its checkpoint says."""

    def make(checkpoint: str = '{"normal": 0.25, "tuberculosis": 0.75}') -> dict[str, Any]:
        (tmp_path / "checkpoint.json").write_text(checkpoint, encoding="utf-8")
        (tmp_path / "fake_model.py").write_text(FAKE_MODEL, encoding="utf-8")
        return {
            "checkpoint": str(tmp_path / "checkpoint.json"),
            "python_model": str(tmp_path / "fake_model.py"),
            "code_paths": [],
            "pip_requirements": ["pandas"],
        }

    return make
