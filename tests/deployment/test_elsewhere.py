"""The registered model in environments that MLflow builds from the model's own files, and on Spark."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cxr_isnet.data import ImageConfig
from cxr_isnet.deployment import log_classifier
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.tracking import TrackingConfig, start_run

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def images(phantom_manifest: Path) -> list[str]:
    return sorted(map(str, (phantom_manifest.parent / "images").iterdir()))


@pytest.fixture(scope="module")
def answers(images: list[str]) -> pd.DataFrame:
    return make_classifier().predict(images)


def make_classifier() -> Classifier:
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    return Classifier(build_network(config, 2, 32).eval(), config, ("normal", "tuberculosis"), ImageConfig(32), "isnet")


@pytest.fixture(scope="module")
def folder(images: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the stored model, all that is there of it."""
    place = tmp_path_factory.mktemp("elsewhere")
    with start_run(
        TrackingConfig(uri=f"sqlite:///{place / 'store' / 'mlflow.db'}"), kind="test", name="a run", parameters={}
    ) as run:
        reference = log_classifier(run, make_classifier(), images)
        assert reference is not None
        stored = run.client.get_logged_model(reference.model_id).artifact_location
    shutil.move(stored.removeprefix("file://"), place / "model")
    shutil.rmtree(place / "store")
    (place / "empty").mkdir()
    return place / "model"


def environment(place: Path) -> dict[str, str]:
    """Of a process that knows nothing of this project; uv takes wheels from where pip is shown to."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    links = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | {"PATH": path, "UV_FIND_LINKS": " ".join(links), "MLFLOW_TRACKING_URI": f"sqlite:///{place}/none.db"}


def test_mlflow_predicts_in_an_environment_built_from_the_model(
    folder: Path, images: list[str], answers: pd.DataFrame
) -> None:
    empty = folder.parent / "empty"
    (empty / "in.json").write_text(json.dumps({"inputs": [*images, "nowhere.png"], "params": {"calibrated": True}}))

    subprocess.run(
        ["mlflow", "models", "predict", "-m", str(folder), "-i", "in.json", "-o", "out.json", "--env-manager", "uv"],
        cwd=empty, env=environment(empty), check=True, timeout=900,
    )  # fmt: skip

    rows = pd.DataFrame(json.loads((empty / "out.json").read_text())["predictions"])
    assert list(rows["error"] == "") == [True] * len(images) + [False]
    expected = answers["probability_tuberculosis"].to_numpy()
    assert rows["probability_tuberculosis"][:-1].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_mlflow_serves_in_an_environment_built_from_the_model(
    folder: Path, images: list[str], answers: pd.DataFrame
) -> None:
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", str(folder), "-p", str(port), "-h", "127.0.0.1"]
    with running([*command, "--env-manager", "uv"], folder.parent / "empty"):
        wait_for(f"http://127.0.0.1:{port}/ping", seconds=600)
        for body in (
            {"inputs": images},
            {"dataframe_split": {"columns": ["path"], "data": [[image] for image in images]}},
            {"dataframe_records": [{"path": image} for image in images]},
        ):
            rows = pd.DataFrame(post(f"http://127.0.0.1:{port}/invocations", body)["predictions"])

            expected = answers["probability_tuberculosis"].to_numpy()
            assert rows["probability_tuberculosis"].to_numpy() == pytest.approx(expected, abs=1e-6)


SPARK = """
import json, sys
import mlflow
from pyspark.sql import SparkSession

model, out, images = sys.argv[1], sys.argv[2], sys.argv[3:]
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
frame = spark.createDataFrame([(image,) for image in [*images, "nowhere.png"]], ["path"])
answer = mlflow.pyfunc.spark_udf(spark, model, env_manager="local")
rows = [row.asDict() for row in frame.withColumn("a", answer("path")).select("a.*").collect()]
json.dump(rows, open(out, "w"))
spark.stop()
"""


def test_spark_scores_a_column_of_paths(folder: Path, images: list[str], answers: pd.DataFrame) -> None:
    pytest.importorskip("pyspark")
    out = folder.parent / "spark.json"

    subprocess.run(
        [sys.executable, "-c", SPARK, str(folder), str(out), *images],
        cwd=folder.parent / "empty", env=environment(folder.parent), check=True, timeout=600,
    )  # fmt: skip

    rows = pd.DataFrame(json.loads(out.read_text())).set_index("path")
    assert rows.loc["nowhere.png", "error"]
    found = rows.loc[images, "probability_tuberculosis"].to_numpy()
    assert found == pytest.approx(answers["probability_tuberculosis"].to_numpy(), abs=1e-6)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def running(command: list[str], place: Path) -> Iterator[None]:
    """A server in a process group of its own, ended as a whole."""
    with (place.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=place, env=environment(place), stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def wait_for(address: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def post(address: str, body: dict[str, Any]) -> Any:
    content = json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)
