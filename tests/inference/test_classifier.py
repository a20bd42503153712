import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_isnet.data import prepare_image
from cxr_isnet.engine.checkpoint import load_state, save_state
from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.calibration import with_temperature
from cxr_isnet.imaging import read_image
from cxr_isnet.inference import Classifier, FeatureReference
from cxr_isnet.networks import NetworkConfig, build_network


@pytest.fixture
def image_paths(phantom_manifest):
    return sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[:5]


def test_a_saved_classifier_comes_back_bit_for_bit(classifier, tmp_path):
    images = torch.rand(4, 1, 32, 32)
    classifier.save(tmp_path / "best.pt")

    found = Classifier.load(tmp_path / "best.pt")

    assert torch.equal(found.network(images), classifier.network(images))
    assert (found.config, found.classes, found.image, found.method) == (
        classifier.config,
        classifier.classes,
        classifier.image,
        classifier.method,
    )


def test_a_loaded_classifier_is_in_evaluation_mode(classifier, tmp_path):
    classifier.network.train()
    classifier.save(tmp_path / "best.pt")

    assert not any(module.training for module in Classifier.load(str(tmp_path / "best.pt")).network.modules())


def test_prediction_is_the_networks_softmax_of_the_prepared_files(classifier, image_paths):
    table = classifier.predict(image_paths)

    images = torch.stack([prepare_image(read_image(path), classifier.image) for path in image_paths])
    expected = torch.softmax(classifier.network(images), 1).detach().double()
    assert list(table.columns) == ["path", "probability_normal", "probability_tuberculosis"]
    assert list(table["path"]) == image_paths
    assert torch.equal(torch.from_numpy(table.iloc[:, 1:].to_numpy()), expected)


def test_the_size_of_the_batches_does_not_matter(classifier, image_paths):
    one_by_one, together = classifier.predict(image_paths, batch_size=1), classifier.predict(image_paths)

    pd.testing.assert_frame_equal(one_by_one, together, rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 3])
def test_reading_ahead_changes_nothing(workers, classifier, image_paths):
    table = classifier.predict(image_paths, batch_size=3, workers=workers)

    images = torch.stack([classifier.load_image(path) for path in image_paths])
    expected = torch.cat([classifier.probabilities(part) for part in images.split(3)])
    assert torch.equal(torch.from_numpy(table.iloc[:, 1:].to_numpy()), expected.double())


def test_bf16_is_used_where_it_gives_nearly_the_same_and_changes_no_classifier(classifier, image_paths, caplog):
    before = classifier.predict(image_paths, 4)

    fast = classifier.predict(image_paths, 4, bf16=True)

    assert caplog.records == []
    assert not fast.equals(before)
    assert (fast.iloc[:, 1:] - before.iloc[:, 1:]).abs().to_numpy().max() < 2e-3
    assert classifier.predict(image_paths, 4).equals(before)
    assert all(weight.is_contiguous() for weight in classifier.network.parameters())


def test_where_bf16_gives_something_else_it_is_not_used_and_said(classifier, image_paths, monkeypatch, caplog):
    monkeypatch.setattr("cxr_isnet.inference.classifier.BF16_TOLERANCE", 1e-7)

    assert classifier.predict(image_paths, 4, bf16=True).equals(classifier.predict(image_paths, 4))
    assert "more than 1e-07: computing in float32" in caplog.text


def test_no_files_give_an_empty_table(classifier):
    table = classifier.predict([])

    assert list(table.columns) == ["path", "probability_normal", "probability_tuberculosis"]
    assert table.empty


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_an_image_that_cannot_be_read_is_reported(content, classifier, image_paths, tmp_path):
    broken = tmp_path / "broken.png"
    if content is not None:
        broken.write_bytes(content)

    with pytest.raises(InputError, match=r"broken\.png"):
        classifier.predict([*image_paths, str(broken)])


def test_the_state_of_a_training_is_reported_to_be_no_classifier(trained):
    with pytest.raises(InputError, match=r"last\.pt: the state of a training.*give best\.pt"):
        Classifier.load(trained / "last.pt")


def test_weights_of_another_network_are_reported(classifier, tmp_path):
    classifier.save(tmp_path / "best.pt")
    state = load_state(tmp_path / "best.pt")
    state["network"] = {"name": "densenet_small", "dropout": 0.0}
    save_state(tmp_path / "best.pt", state)

    with pytest.raises(InputError, match=r"best\.pt: the checkpoint is of another network.*Give the network"):
        Classifier.load(tmp_path / "best.pt")


@pytest.mark.parametrize("part", ["network", "classes", "image", "method"])
def test_a_checkpoint_that_lacks_a_part_is_reported(part, classifier, tmp_path):
    classifier.save(tmp_path / "best.pt")
    state = load_state(tmp_path / "best.pt")
    del state[part]
    save_state(tmp_path / "best.pt", state)

    with pytest.raises(InputError, match=r"best\.pt: .*not a classifier"):
        Classifier.load(tmp_path / "best.pt")


def test_a_temperature_is_kept_and_asked_for(classifier, image_paths, tmp_path):
    classifier.temperature = 2.5
    classifier.save(tmp_path / "best.pt")
    found = Classifier.load(tmp_path / "best.pt")

    own, calibrated = found.predict(image_paths), found.predict(image_paths, calibrated=True)

    assert found.temperature == 2.5
    columns = ["probability_normal", "probability_tuberculosis"]
    np.testing.assert_allclose(calibrated[columns], with_temperature(own[columns].to_numpy(), 2.5), atol=1e-6)
    classifier.temperature = 1.0
    pd.testing.assert_frame_equal(own, classifier.predict(image_paths), check_exact=True)


def test_a_checkpoint_of_before_there_were_temperatures_has_one_of_1(classifier, tmp_path):
    classifier.save(tmp_path / "best.pt")
    state = load_state(tmp_path / "best.pt")
    del state["temperature"]
    save_state(tmp_path / "old.pt", state)

    assert Classifier.load(tmp_path / "old.pt").temperature == 1.0


def test_safetensors_hold_the_same_classifier_and_no_pickle(classifier, image_paths, tmp_path):
    classifier.temperature, classifier.threshold = 2.5, 0.3
    classifier.reference = FeatureReference(torch.rand(4), torch.rand(4, 4), 7.0)
    for name in ("best.pt", "best.safetensors"):
        classifier.save(tmp_path / name)

    found, other = (Classifier.load(tmp_path / name) for name in ("best.safetensors", "best.pt"))

    pd.testing.assert_frame_equal(found.predict(image_paths), other.predict(image_paths), check_exact=True)
    assert (found.temperature, found.threshold, found.reference.limit) == (2.5, 0.3, 7.0)
    assert torch.equal(found.reference.precision, classifier.reference.precision)
    assert not zipfile.is_zipfile(tmp_path / "best.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "best.safetensors"]


@pytest.mark.parametrize("content", [b"", b"no such file", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_safetensors_are_reported(content, tmp_path):
    (tmp_path / "best.safetensors").write_bytes(content)

    with pytest.raises(InputError, match=r"best\.safetensors: "):
        Classifier.load(tmp_path / "best.safetensors")


WEIGHT = "features.conv0.weight"


def changed(state, key, value):
    """The state with another value at `a.b`; a function changes the value that is there."""
    where, parts = state, key.split(".", 1)
    if len(parts) == 2:
        where[parts[0]] = dict(where[parts[0]])
        where = where[parts[0]]
    where[parts[-1]] = value(where[parts[-1]]) if callable(value) else value
    return state


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", None),
        ("network", {"name": 3}),
        ("network", {"name": "densenet_tiny", "depth": 7}),
        ("image", {"size": "large"}),
        ("image", {"pixels": 3}),
        ("image", []),
        ("classes", "normal"),
        ("classes", ["normal"]),
        ("classes", ["normal", 1]),
        ("classes", ["normal", "normal"]),
        ("method", 5),
        ("method", "no such method"),
        ("options", [1]),
        ("options", {"no_such": 1}),
        ("temperature", "warm"),
        ("temperature", float("nan")),
        ("temperature", 0.0),
        ("threshold", 7.0),
        ("threshold", "half"),
        ("weights", None),
        ("weights", [1, 2]),
        (f"weights.{WEIGHT}", "text"),
        (f"weights.{WEIGHT}", lambda w: w * torch.nan),
        (f"weights.{WEIGHT}", lambda w: w / 0.0),
        ("weights.features.norm0.running_var", lambda w: w - 1e9),
        ("reference", {"mean": torch.zeros(3)}),
        ("reference", {"mean": torch.zeros(3), "precision": torch.zeros(2, 2)}),
        ("reference", {"mean": torch.full((3,), torch.nan), "precision": torch.eye(3)}),
    ],
)
def test_a_checkpoint_with_other_content_is_refused_by_name(key, value, classifier, tmp_path):
    classifier.save(tmp_path / "best.pt")
    state = load_state(tmp_path / "best.pt") | {"reference_limit": 1.0}
    save_state(tmp_path / "best.pt", changed(state, key, value))

    with pytest.raises(InputError, match=r"best\.pt|method|options"):
        Classifier.load(tmp_path / "best.pt")


def test_the_file_says_what_decided_the_training(classifier, tmp_path):
    classifier.provenance = {"seed": 3, "data": {"augment": {"noise": 0.02}}, "versions": {"torch": "2"}}
    for name in ("best.pt", "best.safetensors"):
        classifier.save(tmp_path / name)
        assert Classifier.load(tmp_path / name).provenance == classifier.provenance


def test_a_resnet_of_before_its_first_stride_was_2_predicts_as_it_did(classifier, tmp_path):
    torch.manual_seed(0)
    config = NetworkConfig("resnet18_stride1")
    old = replace(classifier, network=build_network(config, 2, 32).eval(), config=config, method="cross_entropy")
    old.save(tmp_path / "now.pt")
    state = torch.load(tmp_path / "now.pt", weights_only=True)
    torch.save({**state, "format": 2, "network": {"name": "resnet18", "dropout": 0.0}}, tmp_path / "then.pt")

    found = Classifier.load(tmp_path / "then.pt")
    found.save(tmp_path / "again.pt")

    images = torch.rand(2, 1, 32, 32)
    assert found.config == config
    assert torch.equal(found.network(images), old.network(images))
    assert torch.equal(Classifier.load(tmp_path / "again.pt").network(images), old.network(images))
