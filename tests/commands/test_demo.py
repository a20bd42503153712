"""The demonstration in miniature."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_isnet.commands.demo import DemoConfig, demo
from cxr_isnet.data import ImageConfig, MarkConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.training import TrainConfig
from cxr_isnet.training.config import DataConfig


def miniature(output: Path) -> DemoConfig:
    manifests = {name: str(output / "data" / f"hospital_{name}" / "manifest.csv") for name in "abc"}
    data = DataConfig(
        training=[manifests["a"], manifests["b"]],
        external=[manifests["c"]],
        classes=["normal", "tuberculosis"],
        image=ImageConfig(size=32),
        mark=MarkConfig(size=0.2),
    )
    train = TrainConfig(
        data,
        output=str(output),
        network=NetworkConfig("densenet_tiny"),
        epochs=1,
        batch_size=4,
        device=Device.CPU,
        resamples=20,
        options=options_by_method({"isnet": {"bound_estimation_epochs": 1}}),
    )
    return DemoConfig(train=train, output=str(output), patients=8)


@pytest.mark.slow
def test_it_leaves_results_a_page_and_runs_in_place_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "demo" / "data" / "hospital_a").mkdir(parents=True)  # an earlier demonstration
    (tmp_path / "demo" / "data" / "hospital_a" / "old.dcm").touch()

    table = demo(miniature(tmp_path / "demo"))

    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert set(results) == {"cross_entropy", "isnet"}
    for numbers in results.values():
        assert {"auc_biased", "auc_clean", "auc_swapped", "relevance_in_lung", "seconds"} <= set(numbers)
        assert 0 <= numbers["auc_swapped"] <= 1
        assert 0 <= numbers["relevance_in_lung"] <= 1
    page = (tmp_path / "demo" / "report.html").read_text()
    assert all(method in page and method in table for method in results)
    assert "data:image/png;base64," in page
    assert "not a medical device" in page
    assert (tmp_path / "demo" / "mlflow.db").is_file()
    assert not (tmp_path / "demo" / "data" / "hospital_a" / "old.dcm").exists()


def test_it_removes_nothing_but_a_demonstration(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(InputError, match="not a demonstration"):
        demo(miniature(tmp_path))

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_another_folder_gets_its_own_hospitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[TrainConfig] = []

    def stop(config: TrainConfig) -> None:
        configs.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("cxr_isnet.commands.demo.train", stop)
    with pytest.raises(KeyboardInterrupt):
        demo(replace(miniature(tmp_path / "elsewhere"), output=str(tmp_path / "here")))

    (config,) = configs
    manifests = [*config.data.training, *config.data.external]
    assert [Path(m).relative_to(tmp_path).parts[:2] for m in manifests] == [("here", "data")] * 3
    assert all(Path(m).is_file() for m in manifests)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda config: replace(config, methods=("isnet", "isnett")), "'isnett' .*known: .*isnet_dual"),
        (
            lambda config: replace(config, train=replace(config.train, data=replace(config.train.data, mark=None))),
            "train.data.mark is null",
        ),
        (lambda config: replace(config, patients=7), "patients is 7; 8 per hospital"),
    ],
)
def test_a_wrong_setting_is_reported_before_an_earlier_demonstration_is_removed(
    spoil: Callable[[DemoConfig], DemoConfig], message: str, tmp_path: Path
) -> None:
    earlier = tmp_path / "demo" / "data" / "hospital_a" / "old.dcm"
    earlier.parent.mkdir(parents=True)
    earlier.touch()

    with pytest.raises(InputError, match=message):
        demo(spoil(miniature(tmp_path / "demo")))

    assert earlier.is_file()
