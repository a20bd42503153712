"""Method `gain`: its loss against loops in float64, what it trains, and its edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.inference import make_explainer
from cxr_isnet.networks import Backbone, NetworkConfig, grad_cam
from cxr_isnet.objectives.gain import GAINOptions, GuidedAttention
from cxr_isnet.objectives.methods import find_method
from tests.objective_maker import make_objective

TINY = NetworkConfig("densenet_tiny")
LAYER = "class_layers.relu"
BARE = Backbone("bare", lambda classes, size, dropout: nn.Sequential(nn.Flatten(), nn.Linear(size**2, classes)))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Classifier:
    """Two feature maps by 1 x 1 convolution and ReLU, averaged, and a linear layer; in loops."""

    def __init__(self, network: nn.Sequential) -> None:
        self.convolution, self.bias = (p.detach().double().numpy() for p in network[0].parameters())
        self.weight, self.offset = (p.detach().double().numpy() for p in network[4].parameters())

    def features(self, image: np.ndarray) -> np.ndarray:
        maps = [np.maximum(self.convolution[k, 0, 0, 0] * image + self.bias[k], 0) for k in range(len(self.bias))]
        return np.stack(maps)

    def logits(self, image: np.ndarray) -> np.ndarray:
        return self.weight @ self.features(image).mean((1, 2)) + self.offset


def convolutional() -> nn.Sequential:
    torch.manual_seed(4)
    layers = nn.Conv2d(1, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_that_of_the_paper_in_loops(batch, normalise):
    network = convolutional()
    for parameter in network.parameters():
        parameter.data *= 3
    options = GAINOptions(0.7, 4.0, 6.0, 0.3, normalise)

    terms = GuidedAttention(network, "1", options)(batch)

    oracle, classification, mining, supervision = Classifier(network), [], [], []
    for index in range(4):
        image = batch["image"][index, 0].double().numpy()
        mask, label = batch["mask"][index, 0].double().numpy(), int(batch["label"][index])
        classification.append(-np.log(softmax(oracle.logits(image))[label]))
        features, attention = oracle.features(image), np.zeros((32, 32))
        for k in range(5):
            attention += oracle.weight[label, k] / 32**2 * features[k]
        attention = np.maximum(attention, 0)
        if normalise:
            attention = attention / max(attention.max(), 1e-8)
        erased = 1 / (1 + np.exp(-6.0 * (attention - 0.3)))
        mining.append(softmax(oracle.logits(image - erased * image))[label])
        if batch["has_mask"][index]:
            supervision.append(((attention - mask) ** 2).mean())
    expected = np.mean(classification) + 0.7 * np.mean(mining) + 4.0 * np.mean(supervision)
    found = {name: float(value.detach()) for name, value in terms.items() if value.dim() == 0}
    assert found["classification"] == pytest.approx(np.mean(classification), rel=1e-5)
    assert found["mining"] == pytest.approx(np.mean(mining), rel=1e-5)
    assert found["supervision"] == pytest.approx(np.mean(supervision), rel=1e-5)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["masked"] == 3


def test_the_settings_of_the_paper_are_the_usual_ones():
    assert find_method("gain").parse_options({}) == GAINOptions(1.0, 10.0, 10.0, 0.5, True)


@pytest.mark.parametrize("network", ["densenet_tiny", "resnet18"])
def test_every_weight_gets_a_gradient(network, batch):
    objective = make_objective("gain", NetworkConfig(network), 3).train()

    objective(batch)["loss"].backward()

    assert [n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("term", ["mining", "supervision"])
def test_each_added_term_moves_the_convolutions(term, batch):
    objective = make_objective("gain", TINY, 3).train()

    objective(batch)[term].backward()

    assert objective.network.features.conv0.weight.grad.abs().max() > 0


def test_a_batch_can_be_learnt_by_heart_and_its_maps_moved_into_the_lungs(batch):
    torch.manual_seed(1)
    objective = make_objective("gain", TINY, 3).train()
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-3)
    first = {name: float(value.detach()) for name, value in objective(batch).items() if value.dim() == 0}

    for _ in range(100):
        optimizer.zero_grad()
        terms = objective(batch)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()

    assert float(terms["classification"].detach()) < 0.2 * first["classification"]
    assert float(terms["supervision"].detach()) < 0.9 * first["supervision"]


def test_without_added_terms_it_trains_the_plain_classifier(batch):
    gradients = []
    for method, options in (("gain", {"mining_weight": 0.0, "supervision_weight": 0.0}), ("cross_entropy", {})):
        torch.manual_seed(1)
        objective = make_objective(method, TINY, 3, **options).train()
        objective(batch)["loss"].backward()
        gradients.append([p.grad for p in objective.parameters()])
        statistics = objective.network.features.norm0.running_mean.clone()
        gradients[-1].append(statistics)

    torch.testing.assert_close(*gradients)


def test_erased_images_do_not_move_running_statistics(batch):
    objective = make_objective("gain", TINY, 3).train()
    plain = make_objective("cross_entropy", TINY, 3).train()
    plain.load_state_dict(objective.state_dict())

    objective(batch)
    plain(batch)

    torch.testing.assert_close(dict(objective.named_buffers()), dict(plain.named_buffers()))


def test_images_without_a_mask_are_not_supervised(batch):
    objective = make_objective("gain", TINY, 3).eval()
    unmasked = {**batch, "has_mask": torch.zeros(4, dtype=torch.bool), "mask": torch.zeros_like(batch["mask"])}
    scribbled = {**batch, "mask": batch["mask"] + (~batch["has_mask"]).view(-1, 1, 1, 1).float()}

    assert float(objective(unmasked)["supervision"]) == 0
    assert torch.equal(objective(scribbled)["supervision"], objective(batch)["supervision"])
    assert torch.isfinite(objective.train()(unmasked)["loss"])


def test_an_empty_mask_counts_as_none(batch):
    objective = make_objective("gain", TINY, 3).eval()
    emptied = {**batch, "mask": torch.zeros_like(batch["mask"]), "has_mask": torch.ones(4, dtype=torch.bool)}

    terms = objective(emptied)

    assert float(terms["supervision"].detach()) == float(terms["masked"]) == 0


def test_one_image_is_a_batch_in_validation(batch):
    objective = make_objective("gain", TINY, 3).eval()

    single = [float(objective({k: v[i : i + 1] for k, v in batch.items()})["loss"].detach()) for i in range(3)]

    assert all(np.isfinite(single))


def test_a_training_step_leaves_gradients_of_others_alone(batch):
    objective = make_objective("gain", TINY, 3).train()
    objective(batch)["loss"].backward()
    before = [p.grad.clone() for p in objective.parameters()]

    objective(batch)

    assert all(torch.equal(p.grad, g) for p, g in zip(objective.parameters(), before, strict=True))


def test_it_is_explained_by_grad_cam_of_every_class(batch):
    objective = make_objective("gain", TINY, 3).eval()
    explainer = make_explainer(objective.network, find_method("gain"), TINY)

    logits, maps = explainer.explain(batch["image"])

    assert torch.equal(maps, grad_cam(objective.network, LAYER, batch["image"])[1])
    torch.testing.assert_close(logits, objective.network(batch["image"]).detach())
    assert F.relu(-maps).max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mining_weight": -1.0}, "mining_weight is -1.0.*0 or more"),
        ({"supervision_weight": -1.0}, "supervision_weight is -1.0.*0 or more"),
        ({"slope": 0.0}, "slope is 0.0.*above 0"),
        ({"threshold": 1.0}, "threshold is 1.0.*between 0 and 1"),
    ],
)
def test_a_setting_out_of_its_range_is_reported_with_the_range(options, message):
    with pytest.raises(InputError, match=message):
        find_method("gain").parse_options(options)


def test_a_network_that_names_no_feature_maps_is_refused():
    with pytest.raises(InputError, match=r"'gain' needs the feature maps of the last layer, which network '.*BARE'"):
        make_objective("gain", NetworkConfig(f"{__name__}.BARE"), 2)
