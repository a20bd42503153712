from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.optimize import minimize
from torch import nn

from cxr_isnet.config import as_plain
from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig, build_network, penultimate
from cxr_isnet.training import train
from cxr_isnet.training.initialisation import fit_last_layer, init_from, initial_checkpoint, read_experiment_config

TINY = NetworkConfig("densenet_tiny")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny classifier of three classes."""
    torch.manual_seed(7)
    path = tmp_path / "best.pt"
    Classifier(build_network(TINY, 3, 32), TINY, ("a", "b", "c"), ImageConfig(size=32), "cross_entropy").save(path)
    return path


def head_and_rest(network: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    state = network.state_dict()
    head = {key: value.clone() for key, value in state.items() if key.startswith("class_layers.out.")}
    return head, {key: value.clone() for key, value in state.items() if key not in head}


def test_all_weights_but_the_last_layers_are_taken(checkpoint):
    network = build_network(TINY, 2, 32)
    own_head, _ = head_and_rest(network)
    init_from(network, TINY, 32, checkpoint)
    head, rest = head_and_rest(network)
    torch.testing.assert_close(head, own_head, rtol=0, atol=0)
    torch.testing.assert_close(rest, head_and_rest(Classifier.load(checkpoint).network)[1], rtol=0, atol=0)


def test_a_classifier_of_the_same_classes_is_given_a_new_last_layer_too(checkpoint):
    network = build_network(TINY, 3, 32)
    own_head, _ = head_and_rest(network)
    init_from(network, TINY, 32, checkpoint)
    torch.testing.assert_close(head_and_rest(network)[0], own_head, rtol=0, atol=0)


def test_another_network_is_named(checkpoint):
    config = NetworkConfig("densenet_small")
    with pytest.raises(
        InputError, match=r"best\.pt: the checkpoint is of a densenet_tiny, but the network is densenet_small"
    ):
        init_from(build_network(config, 2, 32), config, 32, checkpoint)


def test_an_output_that_is_taken_is_reported_before_a_recipe_is_trained(make_config, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear reader")
    with pytest.raises(InputError, match="is not empty: name another folder"):
        train(make_config(init_from=str(recipe), network=TINY))
    assert not (tmp_path / "first_densenet_tiny").exists()


def test_a_missing_checkpoint_stops_before_anything_is_written(make_config, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pt: there is no such checkpoint"):
        train(make_config(init_from=str(tmp_path / "nowhere.pt")))
    assert not (tmp_path / "run").exists()


def test_a_training_starts_from_the_checkpoint(make_config, monkeypatch, unevaluated, checkpoint):
    """With a learning rate of nearly nothing, the features are still the checkpoint's after an epoch; the last layer is
    the fitted one, where each of two classes has the other's weights turned round."""
    config = make_config(init_from=str(checkpoint), network=TINY, epochs=1)
    train(replace(config, optimizer=replace(config.optimizer, learning_rate=1e-12)))
    head, rest = head_and_rest(Classifier.load(Path(config.output) / "best.pt").network)
    first = "features.conv0.weight"
    torch.testing.assert_close(rest[first], Classifier.load(checkpoint).network.state_dict()[first], rtol=0, atol=1e-9)
    weight = head["class_layers.out.weight"]
    assert weight[0].norm() > 0
    torch.testing.assert_close(weight[0], -weight[1], rtol=0, atol=1e-6)


def batches(labels: list[int]) -> list[dict[str, torch.Tensor]]:
    """Images whose brightness grows with the class, with much noise, two at a time."""
    label = torch.tensor(labels)
    image = (0.2 * label[:, None, None, None] + 0.6 * torch.rand(len(labels), 1, 32, 32)).clamp(0, 1)
    return [{"image": image[i : i + 2], "label": label[i : i + 2]} for i in range(0, len(labels), 2)]


def logits(network: nn.Module, images: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(batch["image"]) for batch in images]).double()


@pytest.mark.parametrize("labels", [[0, 1] * 8, [0, 1, 2, 1, 0, 2] * 3])
def test_the_fitted_last_layer_tells_the_classes_in_their_order_and_nothing_else_moves(labels):
    torch.manual_seed(0)
    network, images = build_network(TINY, len(set(labels)), 32), batches(labels)
    _, rest = head_and_rest(network)
    fit_last_layer(network, images)
    means = torch.stack([logits(network, images)[torch.tensor(labels) == k].mean(0) for k in sorted(set(labels))])
    assert means.argmax(1).tolist() == sorted(set(labels))
    torch.testing.assert_close(head_and_rest(network)[1], rest, rtol=0, atol=0)


def test_the_fitted_last_layer_is_where_the_penalised_loss_is_lowest():
    """At the minimum of |w|^2 / 2 + strength * mean(log loss), with w in units of the features' common spread."""
    torch.manual_seed(0)
    labels = [0, 1, 1, 0, 1, 0] * 4
    network, images = build_network(TINY, 2, 32), batches(labels)
    fit_last_layer(network, images)
    layer, x = network.class_layers.out, torch.cat([penultimate(network.eval(), b["image"]) for b in images]).double()
    spread = x.var(0, correction=0).mean().sqrt()
    standard = ((x - x.mean(0)) / spread).numpy()
    difference = (layer.weight[1] - layer.weight[0]).detach().double()
    found = np.append(difference * spread, difference @ x.mean(0) + (layer.bias[1] - layer.bias[0]).detach())

    def penalised(parameters: np.ndarray) -> float:
        z = standard @ parameters[:-1] + parameters[-1]
        loss = np.logaddexp(0, np.where(np.array(labels) == 1, -z, z)).mean()
        return float(parameters[:-1] @ parameters[:-1] / 2 + 0.04 * loss)

    lowest = minimize(penalised, np.zeros(len(found)), tol=1e-10)
    assert penalised(found) == pytest.approx(lowest.fun, rel=1e-5)
    assert found == pytest.approx(lowest.x, abs=1e-3)


def test_a_last_layer_without_bias_is_fitted_without_one():
    torch.manual_seed(0)
    labels = [0, 1, 1, 0, 1, 0] * 4
    network, images = build_network(NetworkConfig("ham_tiny"), 2, 32), batches(labels)
    fit_last_layer(network, images)
    x = torch.cat([penultimate(network.eval(), b["image"]) for b in images]).double()
    spread = x.var(0, correction=0).mean().sqrt()
    standard, signs = (x / spread).numpy(), np.where(np.array(labels) == 1, -1, 1)

    def penalised(weight: np.ndarray) -> float:
        return float(weight @ weight / 2 + 0.04 * np.logaddexp(0, signs * (standard @ weight)).mean())

    found = ((network.head.weight[1] - network.head.weight[0]).detach().double() * spread).numpy()
    assert penalised(found) == pytest.approx(minimize(penalised, np.zeros(len(found)), tol=1e-10).fun, rel=1e-6)


@pytest.fixture
def recipe(make_config, tmp_path) -> Path:
    """A recipe of a plain training of the phantoms, into `first`."""
    path = tmp_path / "first.yaml"
    path.write_text(yaml.safe_dump(as_plain(make_config("first", epochs=1))))
    return path


def test_a_recipe_reads_back_as_the_config_it_was_made_from(make_config, recipe):
    assert read_experiment_config(recipe) == make_config("first", epochs=1)


def test_a_recipe_is_trained_once_with_the_networks_own_kind(make_config, recipe, tmp_path):
    trainings = []

    def counting(config):
        trainings.append(config.output)
        return train(config)

    found = [initial_checkpoint(str(recipe), counting, TINY) for _ in range(2)]
    assert found == [tmp_path / "first_densenet_tiny" / "best.pt"] * 2
    assert trainings == [str(tmp_path / "first_densenet_tiny")]
    assert Classifier.load(found[0]).config == TINY


def test_an_unfinished_training_of_a_recipe_goes_on(recipe, tmp_path):
    folder = tmp_path / "first_densenet_tiny"
    train(replace(read_experiment_config(recipe), network=TINY, output=str(folder)))
    (folder / "metrics.json").unlink()
    trained = (folder / "last.pt").read_bytes()
    initial_checkpoint(str(recipe), train, TINY)
    assert (folder / "metrics.json").is_file()
    assert (folder / "last.pt").read_bytes() == trained


def test_the_start_is_the_same_whether_its_recipe_was_trained_before_or_just_now(make_config, recipe, unevaluated):
    """Training the recipe uses up random numbers, which must not reach the training that starts from it."""
    for output in ("one", "two"):
        train(make_config(output, init_from=str(recipe), network=TINY, epochs=1))
    one, two = (Path(make_config(output).output) / "last.pt" for output in ("one", "two"))
    first, second = (torch.load(p)["trainer"]["objective"] for p in (one, two))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1", "not a readable config"),
        (
            "a: &a [1, 1]\n" + "".join(f"{k}: &{k} [{', '.join([f'*{chr(ord(k) - 1)}'] * 9)}]\n" for k in "bcdefghij"),
            "not a readable config: it repeats parts of itself more than 20 times",
        ),
        ("output: x\n", "not the config of a training.*data"),
    ],
)
def test_a_faulty_recipe_is_named(tmp_path, text, fault):
    path = tmp_path / "faulty.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)faulty\.yaml: {fault}"):
        initial_checkpoint(str(path), train, TINY)


@pytest.mark.parametrize(
    "content", ["output: Z\u00fcrich\n".encode("latin-1"), b"\xff\xfe\0", b"a: [\n", b"[" * 100_000]
)
def test_a_config_that_is_no_yaml_is_told(content, tmp_path):
    (tmp_path / "a.yaml").write_bytes(content)

    with pytest.raises(InputError, match="not a readable config"):
        read_experiment_config(tmp_path / "a.yaml")
