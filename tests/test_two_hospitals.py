"""The page "Two hospitals of your own", walked from an empty folder: its commands as they stand, but for sizes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml

from cxr_isnet.cli import main
from cxr_isnet.phantoms import PhantomHospital, write_hospital
from tests.deployment.test_elsewhere import free_port, post, wait_for

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "two-hospitals.md"
SMALL = {
    ("segment", "train"): ["--epochs=25", "--image.size=32", "--network.channels=[8, 16]", "--resamples=20"],
    ("segment", "predict"): [
        "--limits.agreement=0",
        "--limits.symmetry=0",
        "--limits.fragments=1",
        "--limits.border=1",
    ],
    ("audit",): ["--resamples=20"],
}
"""What makes a command of the page quick; the phantoms' masks of so small a segmenter are taken as they come."""


def archive(folder: Path, hospital: PhantomHospital, seed: int) -> pd.DataFrame:
    """DICOM files as an archive exports them; returns the diagnoses."""
    manifest = write_hospital(folder / "drawn", hospital, patients=16, seed=seed, size=64)
    table = pd.read_csv(manifest, dtype=str)
    for number, name in enumerate(table["image"], start=1):
        shutil.move(manifest.parent / name, folder / f"{number:04}.dcm")
    shutil.rmtree(folder / "drawn")
    return table[["patient_id", "label"]].assign(Bemerkung="gehustet; Größe 1,80")


@pytest.fixture
def clean_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page says that a reader has, in the working directory."""
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "archive_a", PhantomHospital("Alder", monochrome1=True), 1).to_excel(
        "befunde_a.xlsx", index=False
    )
    archive(tmp_path / "archive_b", PhantomHospital("Birch", gamma=1.3), 2).to_csv(
        "befunde_b.csv", sep=";", encoding="cp1252", index=False
    )
    write_hospital("data/shenzhen", PhantomHospital("Cedar"), patients=16, seed=3, size=64)
    write_hospital("data/montgomery", PhantomHospital("Dogwood"), patients=12, seed=4, size=64)
    config = yaml.safe_load(
        re.search(r'```yaml title="first.yaml"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.S)[1]
    )
    config |= {"network": {"name": "densenet_tiny"}, "epochs": 2, "batch_size": 4, "resamples": 20}
    config["data"]["image"]["size"] = 32
    config["options"] = {"isnet": {"bound_estimation_epochs": 1}}
    Path("first.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def run(words: list[str]) -> int:
    small = next((more for start, more in SMALL.items() if tuple(words[: len(start)]) == start), [])
    try:
        main([*words, *small])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.slow
def test_the_page_is_walked_from_a_clean_folder(clean_folder: Path) -> None:
    for program, *words in commands():
        if program != "cxr-isnet":
            check_the_user_interface([program, *words])
            continue
        if words[0] == "register":
            words[1] = json.loads(Path("runs/isnet/run.json").read_text())["run_id"]
        status = run(words)
        assert status == 0 or (status == 1 and words[0] in ("register", "manifest")), words  # the gate; findings

    check_the_store(mlflow.MlflowClient("sqlite:///mlflow.db"))
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    answer = mlflow.pyfunc.load_model("models:/tb-isnet/1").predict(["archive_a/0001.dcm", "no.dcm"])
    assert answer["decision"][0] in ("normal", "tuberculosis", "")
    assert answer["error"][1] != ""


def check_the_user_interface(command: list[str]) -> None:
    """The page's command serves the pages, and the runs that these show."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-m", *command, "--port", str(port)], start_new_session=True)
    try:
        wait_for(f"{address}/health", 300)
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"<title>MLflow</title>" in page.read()
        experiments = post(f"{address}/ajax-api/2.0/mlflow/experiments/search", {"max_results": 100})["experiments"]
        ids = [experiment["experiment_id"] for experiment in experiments]
        found = post(f"{address}/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ids})
        names = {run["info"]["run_name"] for run in found["runs"]}
        assert {"isnet densenet_tiny seed 0 (isnet)", "audit of isnet on Dogwood (audit)"} <= names
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


def check_the_store(client: mlflow.MlflowClient) -> None:
    """The runs as their reader expects them: named, grouped, linked; nothing of a single patient among them."""
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    names = {run.info.run_name: run for run in runs}
    training = names["isnet densenet_tiny seed 0 (isnet)"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {"validation/auc", "external/Dogwood/auc", "external/auc_mean", "external/auc_worst"} <= set(
        training.data.metrics
    )
    assert training.data.params["options.isnet.heatmap_weight"] == "0.5"
    assert training.data.params["network.name"] == "densenet_tiny"
    below = {n for n, run in names.items() if run.data.tags.get("mlflow.parentRunId") == training.info.run_id}
    assert below == {"isnet on Dogwood (isnet_montgomery)", "audit of isnet on Dogwood (audit)"}
    (output,) = training.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert {m.dataset_name for m in model.metrics} == {"validation: Hospital A, Hospital B", "external: Dogwood"}
    assert model.params["seed"] == "0"
    (version,) = client.search_model_versions("name = 'tb-isnet'")
    assert version.tags["method"] == "isnet"
    logged = [file for file in Path("mlartifacts").rglob("*") if file.is_file()]
    patients = [f"PHANTOM-{name}" for name in ("Alder", "Birch")]
    assert not [file for file in logged if file.name.startswith("predictions.")]
    assert not [file for file in logged if any(p.encode() in file.read_bytes() for p in patients)]
