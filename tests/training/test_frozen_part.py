"""Methods that segment the lungs first: their segmenter is read or trained once, stays as it is, and travels along."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from cxr_isnet.config import as_plain
from cxr_isnet.data import ImageConfig
from cxr_isnet.engine import run_directory
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier, predict_manifest
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig, SegmenterConfig, build_network, build_segmenter
from cxr_isnet.objectives import LungClassifier
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.segmentation import Segmenter, SegmentTrainConfig, training
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, experiment, frozen_part, train
from tests.checkpoints import Killed, assert_same, weights
from tests.objectives.test_linear_probe import FakeModel

TINY = NetworkConfig("densenet_tiny")
SMALL = SegmenterConfig((4, 8, 8))


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    """Checkpoint of an untrained segmenter of 48 pixels, as of `segment train`."""
    torch.manual_seed(5)
    path = tmp_path / "lungs.pt"
    Segmenter(build_segmenter(SMALL), SMALL, ImageConfig(48)).save(path)
    return path


def options(segmenter: Path | None, method: str = "two_stage") -> object:
    return options_by_method({method: {"segmenter": None if segmenter is None else str(segmenter)}})


def frozen_weights(run: str | Path) -> dict[str, torch.Tensor]:
    prefix = ".weights.segmenter."
    return {k.removeprefix(prefix): v for k, v in weights(str(run)).items() if k.startswith(prefix)}


@pytest.mark.parametrize("method", ["two_stage", "lungs_only"])
def test_a_segmenter_that_is_given_is_not_changed_by_training_and_is_needed_no_more(
    method: str, segmenter: Path, make_config: Callable[..., TrainConfig], phantom_manifest: Path
) -> None:
    config = make_config(method=method, options=options(segmenter, method), epochs=1)

    train(config)

    assert_same(dict(Segmenter.load(segmenter).network.state_dict()), frozen_weights(config.output))
    segmenter.unlink()
    classifier = Classifier.load(Path(config.output) / "best.pt")
    assert (classifier.network.size, classifier.options["segmenter_network"]["channels"]) == (48, [4, 8, 8])
    table = predict_manifest(classifier, read_manifest(phantom_manifest))
    assert table["relevance_in_lung"].notna().all()


@pytest.fixture
def short_segment_train(monkeypatch: pytest.MonkeyPatch) -> list[SegmentTrainConfig]:
    """Segmenters are trained for one epoch; the configs that were."""
    seen: list[SegmentTrainConfig] = []

    def short(config: SegmentTrainConfig, splits: object) -> object:
        seen.append(config)
        small = replace(config, epochs=1, batch_size=4, network=SMALL, resamples=5)
        return training.train_segmenter(small, splits)

    monkeypatch.setattr(frozen_part, "train_segmenter", short)
    return seen


@pytest.mark.usefixtures("unevaluated")
def test_a_segmenters_config_is_trained_once_for_all_that_name_it(
    make_config: Callable[..., TrainConfig],
    phantom_manifest: Path,
    tmp_path: Path,
    short_segment_train: list[SegmentTrainConfig],
) -> None:
    settings = SegmentTrainConfig(
        [str(phantom_manifest)],
        str(tmp_path / "lungs"),
        image=ImageConfig(32),
        device=Device.CPU,
        tracking=TrackingConfig(enabled=False),
    )
    recipe = tmp_path / "lungs.yaml"
    recipe.write_text(yaml.safe_dump(as_plain(settings)))

    for output in ("one", "two"):
        train(make_config(output, method="two_stage", options=options(recipe), epochs=1))

    assert len(short_segment_train) == 1
    expected = dict(Segmenter.load(tmp_path / "lungs" / "best.pt").network.state_dict())
    for output in ("one", "two"):
        assert_same(expected, frozen_weights(make_config(output).output))


@pytest.mark.usefixtures("unevaluated")
def test_without_one_it_is_trained_on_the_given_masks_of_the_training_images(
    make_config: Callable[..., TrainConfig], short_segment_train: list[SegmentTrainConfig]
) -> None:
    config = make_config(method="lungs_only", epochs=1, seed=3)

    train(config)

    (trained,) = short_segment_train
    assert trained.training == config.data.training
    assert (trained.output, trained.seed) == (f"{config.output}_segmenter", 3)
    assert trained.image == config.data.image
    assert RunDirectory(Path(trained.output)).metrics_file.is_file()


@pytest.mark.usefixtures("unevaluated")
def test_a_killed_training_of_the_segmenter_is_resumed(
    make_config: Callable[..., TrainConfig],
    kill_at: Callable[..., None],
    short_segment_train: list[SegmentTrainConfig],
) -> None:
    config = make_config(method="two_stage", epochs=1)
    kill_at(run_directory.RunDirectory, "save", 1)
    with pytest.raises(Killed):
        train(config)

    train(config)

    assert [c.resume for c in short_segment_train] == [False, True]


@pytest.mark.usefixtures("unevaluated")
def test_the_classifier_inside_starts_from_a_plain_ones_weights(
    segmenter: Path, make_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_config("plain", epochs=1)
    train(plain)
    best = Path(plain.output) / "best.pt"
    seen: list[torch.nn.Module] = []

    def stop(self: object, prepare: object) -> None:
        seen.append(self._trainer.objective.network)
        raise Killed

    monkeypatch.setattr("cxr_isnet.training.experiment.CheckpointedRun.run", stop)
    with pytest.raises(Killed):
        train(make_config("masked", method="two_stage", options=options(segmenter), init_from=str(best)))

    expected = Classifier.load(best).network.state_dict()
    found = seen[0].classifier.state_dict()
    different = {key for key in expected if not torch.equal(expected[key], found[key])}
    assert different == {"class_layers.out.weight", "class_layers.out.bias"}
    assert_same(dict(Segmenter.load(segmenter).network.state_dict()), dict(seen[0].segmenter.state_dict()))


def test_a_segmenter_of_otherwise_prepared_images_is_refused(
    make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    path = tmp_path / "lungs.pt"
    Segmenter(build_segmenter(SMALL), SMALL, ImageConfig(48, equalize=False)).save(path)

    with pytest.raises(InputError, match=r"lungs\.pt: .*image\.equalize False.*data\.image\.equalize True"):
        train(make_config(method="two_stage", options=options(path)))


def test_a_segmenter_that_is_not_there_or_is_none_is_reported(
    make_config: Callable[..., TrainConfig], tmp_path: Path, trained: Path
) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pt: there is no such checkpoint"):
        train(make_config(method="two_stage", options=options(tmp_path / "nowhere.pt")))
    with pytest.raises(InputError, match=r"best\.pt: not a lung segmenter"):
        train(make_config(method="two_stage", options=options(trained / "best.pt")))


def test_a_segmenter_cannot_be_trained_without_masks(
    make_config: Callable[..., TrainConfig], phantom_table: object, tmp_path: Path
) -> None:
    phantom_table["mask"] = ""
    phantom_table.to_csv(tmp_path / "manifest.csv", index=False)

    with pytest.raises(InputError, match=r"two_stage\.segmenter is None.*no image has a given lung mask.*name best"):
        train(make_config(method="two_stage", data={"training": [str(tmp_path / "manifest.csv")]}))


def probe(encoder: str | Path | None) -> object:
    return options_by_method({"linear_probe": {"encoder": None if encoder is None else str(encoder)}})


def encoder_weights(run: str) -> dict[str, torch.Tensor]:
    prefix = ".weights.encoder."
    return {k.removeprefix(prefix): v for k, v in weights(run).items() if k.startswith(prefix)}


def features_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.startswith("class_layers.out.")}


@pytest.mark.parametrize("kind", ["best.pt", "best.pt of two_stage", "state dict", "state dict without a head"])
def test_the_encoder_of_a_linear_probe_is_read_and_left_as_it_is(
    kind: str, make_config: Callable[..., TrainConfig], tmp_path: Path, segmenter: Path, unevaluated: None
) -> None:
    torch.manual_seed(8)
    network = build_network(TINY, 5 if kind == "state dict" else 2, 32)
    path = tmp_path / "start.pt"
    if kind.startswith("best.pt"):
        method = "two_stage" if "two_stage" in kind else "cross_entropy"
        given = options_by_method({"two_stage": {"segmenter_network": {"channels": [4, 8]}}}).two_stage
        whole = network
        if method == "two_stage":
            whole = LungClassifier(network, build_segmenter(SegmenterConfig((4, 8))), 32)
        plain = as_plain(given) if method == "two_stage" else {}
        Classifier(whole, TINY, ("normal", "tuberculosis"), ImageConfig(32), method, options=plain).save(path)
    else:
        torch.save(network.state_dict() if kind == "state dict" else features_of(network), path)
    config = make_config(method="linear_probe", options=probe(path), network=TINY, epochs=2)

    train(config)

    assert_same(features_of(network), encoder_weights(config.output))
    path.unlink()
    classifier = Classifier.load(Path(config.output) / "best.pt")
    assert classifier.network(torch.rand(1, 1, 32, 32)).shape == (1, 2)


def test_its_last_layer_starts_fitted_to_the_features(
    make_config: Callable[..., TrainConfig], trained: Path, kill_at: Callable[..., None]
) -> None:
    kill_at(experiment, "fit_last_layer", 1)

    with pytest.raises(Killed):
        train(make_config(method="linear_probe", options=probe(trained / "best.pt"), network=TINY))


def test_a_linear_probe_of_timm_needs_it_for_its_architecture_only(
    make_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, unevaluated: None
) -> None:
    made = []

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> torch.nn.Module:
        made.append(pretrained)
        return FakeModel(0.25 if pretrained else 0.0)

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    config = make_config(method="linear_probe", options=probe("timm:eva"), network=TINY, epochs=1)

    train(config)

    made.clear()
    classifier = Classifier.load(Path(config.output) / "best.pt")
    assert made == [False]
    assert float(classifier.network.encoder.network.bias) == 0.25


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"linear_probe\.encoder is null: name best\.pt of a training of densenet_tiny"),
        ("nowhere.pt", r"nowhere\.pt: there is no such checkpoint"),
        ({"epoch": 3}, r"start\.pt: no state dict of densenet_tiny"),
        ({"conv.weight": torch.zeros(1)}, r"start\.pt: the checkpoint is of another network: \d+ missing"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_reported(
    content: object, message: str, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    source = content if content is None or isinstance(content, str) else tmp_path / "start.pt"
    if isinstance(content, dict):
        torch.save(content, tmp_path / "start.pt")

    with pytest.raises(InputError, match=message):
        train(make_config(method="linear_probe", options=probe(source), network=TINY))


def test_the_encoder_of_another_network_is_reported(make_config: Callable[..., TrainConfig], trained: Path) -> None:
    small = NetworkConfig("densenet_small")
    with pytest.raises(InputError, match=r"is of a densenet_tiny, but the network is densenet_small"):
        train(make_config(method="linear_probe", options=probe(trained / "best.pt"), network=small))
