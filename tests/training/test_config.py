"""The config, its limits, and its way through YAML."""

from dataclasses import replace

import pytest
import yaml

from cxr_isnet.cli import main
from cxr_isnet.commands import train as train_command
from cxr_isnet.config import as_plain
from cxr_isnet.data import AugmentConfig, ImageConfig, MarkConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.settings import Algorithm, OptimizerConfig, Precision
from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.phantoms import Corner
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, experiment, train
from cxr_isnet.training.config import DataConfig

OTHER_THAN_DEFAULT = TrainConfig(
    DataConfig(
        ["a.csv", "b.yaml"],
        ["normal", "ill"],
        ["c.csv"],
        ImageConfig(64, equalize=False),
        AugmentConfig(flip=True, gamma=(0.7, 1.4)),
        MarkConfig(0.2, corner=Corner.BOTTOM_LEFT),
        masked_only=True,
        validation_fraction=0.3,
        workers=1,
        cache_folder="kept",
    ),
    "out",
    "isnet_dual",
    options_by_method({"isnet_dual": {"heatmap_weight": 0.9, "loss": {"form": "hybrid"}}}),
    NetworkConfig("densenet_small", 0.1),
    "pipelines/pretraining.yaml",
    OptimizerConfig(Algorithm.SGD, 0.01, 0.0, 0.9, 2.0, 0.2, 0.99),
    7,
    3,
    8,
    5,
    Precision.BF16,
    compile=True,
    device=Device.CPU,
    resume=False,
    resamples=10,
    tracking=TrackingConfig("sqlite:///x.db", "e", "r"),
    register="lungs",
)


@pytest.fixture
def shown(monkeypatch) -> list[TrainConfig]:
    """The configs that the command line gives to the training, which does not take place."""
    configs: list[TrainConfig] = []
    monkeypatch.setattr(train_command, "run", configs.append)
    return configs


@pytest.mark.parametrize("config", [OTHER_THAN_DEFAULT, TrainConfig(DataConfig(["a.csv"], ["n", "t"]), "out")])
def test_a_config_comes_back_from_yaml_as_it_was(config, shown, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_plain(config)))

    main(["train", "--config", str(tmp_path / "config.yaml")])

    assert shown == [config]


def test_the_config_that_a_training_leaves_can_be_given_back(make_config, shown, tmp_path, unevaluated):
    config = make_config(method="isnet", epochs=1)
    experiment.train(config)

    main(["train", "--config", str(tmp_path / "run" / "config.yaml"), "--output", "again"])

    assert shown == [replace(config, output="again")]


def test_the_command_line_overrides_the_file(shown, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_plain(OTHER_THAN_DEFAULT)))

    main(["train", "--config", str(tmp_path / "config.yaml"), "--device", "AUTO", "--data.mark", "null"])

    expected = replace(OTHER_THAN_DEFAULT, device=Device.AUTO, data=replace(OTHER_THAN_DEFAULT.data, mark=None))
    assert shown == [expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"resamples": 0}, "resamples is 0"),
        ({"patience": 0}, "patience is 0; it must be at least 1, or null for never"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
        ({"register": "lungs"}, "register is 'lungs', but tracking.enabled is false"),
        ({"register": "a/b"}, "registered name 'a/b': give a name"),
        ({"data": {"classes": ["normal"]}}, "data.classes is .*at least two different labels"),
        ({"data": {"classes": ["normal", "normal"]}}, "data.classes is .*at least two different labels"),
        ({"data": {"validation_fraction": 1.0}}, "data.validation_fraction is 1.0; it must lie between 0 and 1"),
        ({"data": {"external": ["{}"], "training": ["{}"]}}, "both data.training and data.external"),
    ],
)
def test_settings_out_of_range_are_reported(make_config, changes, message):
    with pytest.raises(InputError, match=message):
        make_config(**changes)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip", -1.0),
        ("weight_decay", -0.1),
        ("momentum", 1.0),
        ("warmup", 1.5),
        ("average", 1.0),
    ],
)
def test_settings_of_the_optimiser_out_of_range_are_reported(setting, value):
    with pytest.raises(InputError, match=f"optimizer.{setting} is {value}; it must be"):
        OptimizerConfig(**{setting: value})


def test_a_batch_larger_than_the_training_set_is_reported_before_anything_is_written(make_config, tmp_path):
    with pytest.raises(InputError, match="do not fill one batch of 64"):
        train(make_config(batch_size=64))

    assert not (tmp_path / "run").exists()


def test_a_server_that_is_not_there_is_told_before_any_image_is_read(make_config, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("cxr_isnet.training.partitions.check_files", lambda *rows: pytest.fail("an image was read"))
    lacking = {"external": [str(tmp_path / "moved.csv")]}

    with pytest.raises(InputError, match=r"(?s)127\.0\.0\.1:9' cannot be used \(.*refused.*moved\.csv"):
        train(make_config(tracking=TrackingConfig("http://127.0.0.1:9"), data=lacking))


def test_a_store_that_mlflow_cannot_track_to_is_no_setting():
    with pytest.raises(InputError, match="MLflow cannot track to it"):
        TrackingConfig("file:///runs")


def test_a_store_that_cannot_be_written_is_reported_before_anything_is_written(make_config, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="cannot be written to"):
        train(make_config(tracking=TrackingConfig(f"sqlite:///{tmp_path}/file/mlflow.db")))

    assert not (tmp_path / "run").exists()
