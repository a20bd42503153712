from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from cxr_isnet.choices import as_plain
from cxr_isnet.data import ImageConfig
from cxr_isnet.deployment import Classifier
from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.training import train
from cxr_isnet.training.starting import read_recipe, start_from, starting_checkpoint

TINY = NetworkConfig("densenet_tiny")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny classifier of three classes."""
    torch.manual_seed(7)
    path = tmp_path / "best.pt"
    Classifier(build_network(TINY, 3), TINY, ("a", "b", "c"), ImageConfig(size=32), "densenet121").save(path)
    return path


def head_and_rest(network: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    state = network.state_dict()
    head = {key: value.clone() for key, value in state.items() if key.startswith("class_layers.out.")}
    return head, {key: value.clone() for key, value in state.items() if key not in head}


def test_all_weights_but_the_last_layers_are_taken(checkpoint):
    network = build_network(TINY, 2)
    own_head, _ = head_and_rest(network)
    start_from(network, TINY, checkpoint)
    head, rest = head_and_rest(network)
    torch.testing.assert_close(head, own_head, rtol=0, atol=0)
    torch.testing.assert_close(rest, head_and_rest(Classifier.load(checkpoint).network)[1], rtol=0, atol=0)


def test_a_classifier_of_the_same_classes_is_given_a_new_last_layer_too(checkpoint):
    network = build_network(TINY, 3)
    own_head, _ = head_and_rest(network)
    start_from(network, TINY, checkpoint)
    torch.testing.assert_close(head_and_rest(network)[0], own_head, rtol=0, atol=0)


def test_another_network_is_named(checkpoint):
    config = NetworkConfig("densenet_small")
    with pytest.raises(
        InputError, match=r"best\.pt: start_from names a densenet_tiny, but the network is densenet_small"
    ):
        start_from(build_network(config, 2), config, checkpoint)


def test_an_output_that_is_taken_is_told_before_a_recipe_is_trained(make_config, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear reader")
    with pytest.raises(InputError, match="is not empty: name another folder"):
        train(make_config(start_from=str(recipe), network=TINY))
    assert not (tmp_path / "first_densenet_tiny").exists()


def test_a_missing_checkpoint_stops_before_anything_is_written(make_config, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pt: there is no such checkpoint"):
        train(make_config(start_from=str(tmp_path / "nowhere.pt")))
    assert not (tmp_path / "run").exists()


def test_a_training_starts_from_the_checkpoint(make_config, monkeypatch, unjudged, checkpoint):
    """With a learning rate of nearly nothing, the features are still the checkpoint's after an epoch."""
    config = make_config(start_from=str(checkpoint), network=TINY, epochs=1)
    train(replace(config, optimizer=replace(config.optimizer, learning_rate=1e-12)))
    first = "features.conv0.weight"
    found = Classifier.load(Path(config.output) / "best.pt").network.state_dict()[first]
    torch.testing.assert_close(found, Classifier.load(checkpoint).network.state_dict()[first], rtol=0, atol=1e-9)


@pytest.fixture
def recipe(make_config, tmp_path) -> Path:
    """A recipe of a plain training of the phantoms, into `first`."""
    path = tmp_path / "first.yaml"
    path.write_text(yaml.safe_dump(as_plain(make_config("first", epochs=1))))
    return path


def test_a_recipe_reads_back_as_the_config_it_was_made_from(make_config, recipe):
    assert read_recipe(recipe) == make_config("first", epochs=1)


def test_a_recipe_is_trained_once_with_the_networks_own_kind(make_config, recipe, tmp_path):
    trainings = []

    def counting(config):
        trainings.append(config.output)
        return train(config)

    found = [starting_checkpoint(str(recipe), counting, TINY) for _ in range(2)]
    assert found == [tmp_path / "first_densenet_tiny" / "best.pt"] * 2
    assert trainings == [str(tmp_path / "first_densenet_tiny")]
    assert Classifier.load(found[0]).config == TINY


def test_an_unfinished_training_of_a_recipe_goes_on(recipe, tmp_path):
    folder = tmp_path / "first_densenet_tiny"
    train(replace(read_recipe(recipe), network=TINY, output=str(folder)))
    (folder / "metrics.json").unlink()
    trained = (folder / "last.pt").read_bytes()
    starting_checkpoint(str(recipe), train, TINY)
    assert (folder / "metrics.json").is_file()
    assert (folder / "last.pt").read_bytes() == trained


def test_the_start_is_the_same_whether_its_recipe_was_trained_before_or_just_now(make_config, recipe, unjudged):
    """Training the recipe uses up random numbers, which must not reach the training that starts from it."""
    for output in ("one", "two"):
        train(make_config(output, start_from=str(recipe), network=TINY, epochs=1))
    one, two = (Path(make_config(output).output) / "last.pt" for output in ("one", "two"))
    first, second = (torch.load(p)["fitting"]["objective"] for p in (one, two))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("text", "fault"), [("[1", "not a readable recipe"), ("output: x\n", "not the recipe of a training.*data")]
)
def test_a_faulty_recipe_is_named(tmp_path, text, fault):
    path = tmp_path / "faulty.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)faulty\.yaml: {fault}"):
        starting_checkpoint(str(path), train, TINY)
