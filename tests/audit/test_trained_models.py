"""The audit on trained networks: one that fell for planted marks, an ISNet that did not, one that never saw a mark.

Settings of `pipelines/demo.yaml`; four trainings of some minutes each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cxr_isnet.commands.audit import AuditConfig, audit
from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.settings import OptimizerConfig
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.phantoms import PHANTOM_HOSPITALS, write_hospital
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, train
from cxr_isnet.training.config import DataConfig

pytestmark = pytest.mark.slow

MARK = MarkConfig(size=0.14)
NO_TRACKING = TrackingConfig(enabled=False)
Audited = Callable[[str, MarkConfig | None, int], Mapping[str, Any]]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("hospitals")
    return {
        name: str(write_hospital(folder / name, hospital, patients=160, seed=0))
        for name, hospital in PHANTOM_HOSPITALS.items()
    }


@pytest.fixture(scope="module")
def audited(hospitals: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """Method, marks and seed of a training to the audit, on the hospital that it has not seen, without any mark."""

    def run(method: str, mark: MarkConfig | None, seed: int) -> Mapping[str, Any]:
        folder = tmp_path_factory.mktemp(method)
        training, external = [hospitals["hospital_a"], hospitals["hospital_b"]], hospitals["hospital_c"]
        loss = {"decay": 0.97, "activation": 0.3}
        train(
            TrainConfig(
                DataConfig(training=training, classes=["normal", "tuberculosis"], image=ImageConfig(96), mark=mark),
                str(folder / "run"),
                method=method,
                network=NetworkConfig("densenet_tiny"),
                options=options_by_method({"isnet": {"heatmap_weight": 0.5, "deep_supervision": True, "loss": loss}}),
                optimizer=OptimizerConfig(learning_rate=3e-3),
                epochs=16,
                batch_size=16,
                seed=seed,
                device=Device.CPU,
                resamples=20,
                tracking=NO_TRACKING,
            )
        )
        checkpoint = str(folder / "run" / "best.pt")
        audit(AuditConfig(checkpoint, [external], str(folder / "audit"), most_images=100, tracking=NO_TRACKING))
        content: Mapping[str, Any] = json.loads((folder / "audit" / "audit.json").read_text())
        return content

    return run


def verdicts(content: Mapping[str, Any]) -> dict[str, str]:
    return {p["name"]: p["verdict"] for p in content["probes"]}


def test_a_plain_network_trained_with_marks_is_caught_on_images_without_any(audited: Audited) -> None:
    content = audited("densenet121", MARK, 0)

    assert content["verdict"] == "shortcut found"
    assert verdicts(content)["imposed_changes"] == "shortcut found"


def test_an_isnet_trained_with_the_same_marks_passes(audited: Audited) -> None:
    content = audited("isnet", MARK, 0)

    assert content["verdict"] != "shortcut found", verdicts(content)


@pytest.mark.parametrize("seed", [0, 1])
def test_there_is_no_false_alarm_on_a_plain_network_that_never_saw_a_mark(seed: int, audited: Audited) -> None:
    content = audited("densenet121", None, seed)

    assert content["verdict"] != "shortcut found", verdicts(content)
