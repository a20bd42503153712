"""Runs of trainings as they lie in a store, made of tables instead of trainings; and a registration as a process."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus

from cxr_isnet.deployment import EXTERNAL_TAG, MODEL_DIGEST_TAG, SEEN_TAG, GateConfig, register
from cxr_isnet.evaluation import write_predictions
from cxr_isnet.tracking import open_store
from cxr_isnet.tracking.store import experiment_id

CLASSES = ("normal", "tuberculosis")
GATE = GateConfig(resamples=100)


def predictions(strength: float, *, seed: int = 0, patients: int = 200, site: str = "A") -> pd.DataFrame:
    """Predictions whose log odds are apart by `strength` standard deviations, calibrated; of the same patients."""
    label = np.arange(patients) % 2
    noise = np.random.default_rng(seed).normal(size=patients)
    chance = 1 / (1 + np.exp(-strength * (strength * (label - 0.5) + noise)))
    names = [f"{site}{i}" for i in range(patients)]
    table = pd.DataFrame({"path": names, "patient_id": names, "site": site, "label": [CLASSES[i] for i in label]})
    table["probability_normal"], table["probability_tuberculosis"] = 1 - chance, chance
    return table.assign(model_uri="x", relevance_in_lung=0.8 + 0.1 * noise / 10, relevance_null=0.3, error="")


def make_run(uri: str, strength: float, *, method: str = "isnet", external: bool = True, audited: bool = True) -> str:
    """A finished training with everything that the gate asks for; `strength` says how good it is."""
    client = open_store(uri)
    experiment = experiment_id(client, uri, "made")
    sha256 = f"{np.random.default_rng().integers(1 << 62):064x}"
    tags = {"method": method, "seed": "0", MODEL_DIGEST_TAG: sha256, SEEN_TAG: "aa", EXTERNAL_TAG: "bb"}
    run_id = str(client.create_run(experiment, tags=tags).info.run_id)
    tables = {"validation/clean": predictions(strength, seed=1, site="T")}
    if external:
        tables["external/clean"] = predictions(strength, seed=2)
        tables["external/thumbnail"] = predictions(0.2, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            write_predictions(table, Path(folder) / "predictions.csv")
            client.log_artifact(run_id, str(Path(folder) / "predictions.csv"), name)
    client.log_dict(run_id, {"calibration": {"temperature": 1.0}}, "metrics.json")
    model = client.create_logged_model(
        experiment, name="model", source_run_id=run_id, tags={"mlflow.note.content": "What it is."}
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLmodel").write_text(f"model_id: {model.model_id}\nflavors: {{}}\n")
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.set_terminated(run_id)
    if audited:
        audit = str(client.create_run(experiment, tags={MODEL_DIGEST_TAG: sha256}).info.run_id)
        client.log_dict(audit, {"verdict": "none found among those examined"}, "audit.json")
        client.set_terminated(audit)
    return run_id


def champion(client: MlflowClient, name: str) -> str:
    """Number of the version with the alias, "" for none."""
    return str(client.get_registered_model(name).aliases.get("champion", ""))


if __name__ == "__main__":  # uri name run_id [run_id ...]: registers them one after the other
    store, name, *runs = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    for run in runs:
        found = register(open_store(store), run, name, GATE)
        print(json.dumps({"version": found.version, "promoted": found.promoted}), flush=True)
