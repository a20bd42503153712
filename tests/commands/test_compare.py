"""A comparison with real trainings in processes of their own: failures, resuming, a kill, MLflow, the report."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from cxr_isnet.commands.compare import CompareConfig, compare
from cxr_isnet.config import as_plain
from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.errors import InputError
from cxr_isnet.tracking import TrackingConfig


@pytest.fixture(scope="module")
def experiment(phantom_manifest, external_manifest, tmp_path_factory) -> Path:
    """Config of a tiny training on phantoms, as a user writes it."""
    data = {
        "training": [str(phantom_manifest)],
        "external": [str(external_manifest)],
        "classes": ["normal", "tuberculosis"],
        "image": as_plain(ImageConfig(32)),
        "mark": as_plain(MarkConfig(0.2)),
        "validation_fraction": 0.34,
    }
    settings = {"data": data, "output": "unused", "network": {"name": "densenet_tiny"}, "epochs": 1, "batch_size": 4}
    path = tmp_path_factory.mktemp("experiment") / "experiment.yaml"
    path.write_text(yaml.safe_dump({**settings, "resamples": 20, "device": "cpu"}))
    return path


@pytest.fixture(scope="module")
def compared(experiment, tmp_path_factory) -> tuple[CompareConfig, str, int]:
    output = tmp_path_factory.mktemp("compared") / "out"
    config = CompareConfig(
        experiment=str(experiment),
        output=str(output),
        methods=["cross_entropy"],
        variants={
            "refused": {"method": "cross_entropy", "network": {"name": "resnet18", "dropout": 0.5}},
            "dying": {"method": "tests.examples.dying.METHOD"},
        },
        seeds=[0],
        reference="cross_entropy",
        parallel=2,
        resamples=50,
        tracking=TrackingConfig(uri=f"sqlite:///{output.parent}/mlflow.db"),
    )
    return (config, *compare(config))


def test_a_training_that_fails_or_dies_stops_no_other(compared):
    config, text, status = compared

    assert status == 1
    assert "refused, seed 0 failed: InputError: network.dropout is 0.5" in text
    assert "dying, seed 0 failed: its process ended with status 9" in text
    assert (Path(config.output) / "trainings" / "cross_entropy" / "seed_0" / "metrics.json").is_file()


def test_the_report_has_a_row_for_each_finished_method_and_control(compared):
    output = Path(compared[0].output)

    written = pd.read_csv(output / "comparison.csv")

    assert written["method"].tolist() == ["cross_entropy", "thumbnail", "border", "mask_shape"]
    row = written.set_index("method").loc["cross_entropy"]
    assert row["cost/parameters"] > 50_000
    assert row["cost/training_ms_per_image"] > 0
    assert row["cost/inference_ms_per_image"] > 0
    assert 0 < row["clean/Birch/relevance_in_lung"] < 1
    assert "biased_minus_swapped" in written.columns
    page = (output / "report.html").read_text()
    assert "Heatmaps" in page
    assert "refused, seed 0 failed" in page


def test_mlflow_has_a_parent_run_with_a_child_for_each_training(compared):
    client = MlflowClient(compared[0].tracking.uri)
    runs = client.search_runs([client.get_experiment_by_name("cxr-isnet").experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("kind") == "comparison"]

    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]

    assert [run.data.tags["method"] for run in children if run.info.status == "FINISHED"] == ["cross_entropy"]
    assert "report.html" in [item.path for item in client.list_artifacts(parent.info.run_id)]
    assert "cross_entropy/mean_auc" in parent.data.metrics


def test_a_finished_training_is_not_trained_again(compared):
    config, text, _ = compared
    best = Path(config.output) / "trainings" / "cross_entropy" / "seed_0" / "best.pt"
    before = best.stat().st_mtime_ns

    again, status = compare(CompareConfig(**{**vars(config), "variants": {}}))

    assert status == 0
    assert best.stat().st_mtime_ns == before
    assert again.splitlines()[1].split()[:4] == text.splitlines()[1].split()[:4]


def test_a_comparison_is_resumed_with_its_own_data_only(compared):
    config, *_ = compared

    with pytest.raises(InputError, match=r"holds a training with experiment\.epochs=1, not 2"):
        compare(CompareConfig(**{**vars(config), "settings": {"epochs": 2}}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reference": "gain"}, "reference is 'gain'"),
        ({"parallel": 0}, "parallel is 0"),
        ({"phantom_patients": -1}, "phantom_patients is -1"),
        ({"settings": {"data": {"external": []}}}, r"data\.external is empty"),
        ({"settings": {"epoch": 3}}, "settings.*epoch"),
        ({"experiment": "no_such_recipe"}, "no_such_recipe"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(experiment, tmp_path, changes, named):
    with pytest.raises(InputError, match=named):
        compare(CompareConfig(**{"experiment": str(experiment), "output": str(tmp_path / "out"), **changes}))

    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_table_of_an_undisturbed_one(experiment, tmp_path):
    def start(output: Path) -> subprocess.Popen[bytes]:
        words = ["compare", f"--experiment={experiment}", f"--output={output}", "--methods=[cross_entropy,isnet]",
                 "--seeds=[0]", "--settings={epochs: 3, options: {isnet: {bound_estimation_epochs: 1}}}",
                 "--resamples=50", "--tracking.enabled=false"]  # fmt: skip
        return subprocess.Popen([sys.executable, "-m", "cxr_isnet", *words], stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    broken = tmp_path / "broken"
    for method in ("cross_entropy", "isnet"):
        running = start(broken)
        state = broken / "trainings" / method / "seed_0" / "last.pt"
        while not state.is_file():
            assert running.poll() is None
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        time.sleep(2)
        assert not (broken / "trainings" / method / "seed_0" / "metrics.json").is_file()
    assert start(broken).wait() == 0

    tables = [pd.read_csv(tmp_path / name / "comparison.csv") for name in ("whole", "broken")]
    kept = [column for column in tables[0].columns if "ms_per_image" not in column]
    pd.testing.assert_frame_equal(tables[0][kept], tables[1][kept])


@pytest.fixture
def ray_cluster():
    """Address of a cluster of two nodes with one core each, ended with the test; on loopback."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    assert cluster.address.startswith("127.0.0.1:")
    yield cluster.address
    cluster.shutdown()


@pytest.mark.services
def test_a_ray_cluster_of_two_nodes_trains_what_this_machine_would(experiment, tmp_path, ray_cluster):
    def config(name: str, **changes) -> CompareConfig:
        variants = {"refused": {"method": "cross_entropy", "network": {"name": "resnet18", "dropout": 0.5}}}
        return CompareConfig(
            experiment=str(experiment), output=str(tmp_path / name), methods=["cross_entropy"], variants=variants,
            seeds=[0, 1], reference="cross_entropy", resamples=50, tracking=TrackingConfig(enabled=False), **changes,
        )  # fmt: skip

    _, here = compare(config("here", parallel=2))  # a thread each, as there
    text, there = compare(config("there", ray=ray_cluster))

    assert here == there == 1
    assert "refused, seed 1 failed: InputError: network.dropout is 0.5" in text
    tables = [pd.read_csv(tmp_path / name / "comparison.csv") for name in ("here", "there")]
    kept = [column for column in tables[0].columns if "ms_per_image" not in column]
    pd.testing.assert_frame_equal(tables[0][kept], tables[1][kept])
