"""Classifiers of the lungs alone, with a segmenter that takes what is bright for lung."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.masked_image import LUNGS_ONLY, TWO_STAGE, LungClassifier, MaskedImages
from tests.objective_maker import make_objective

TINY = NetworkConfig("densenet_tiny")


class BrightIsLung(nn.Module):
    """Logits that are positive above a grey value of 0.5; a batch norm that would move in training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.norm(images) - 0.5) * self.scale


def classifier() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5, 3))


@pytest.fixture
def network() -> LungClassifier:
    return LungClassifier(classifier(), BrightIsLung(), 32)


def bright(images: torch.Tensor) -> torch.Tensor:
    return (images >= 0.5).float()


def cross_entropy_by_loops(network: LungClassifier, images: torch.Tensor, masks: torch.Tensor, labels: list) -> float:
    blackened = images.numpy().copy()
    for place in np.ndindex(*blackened.shape):
        if masks[place] == 0:
            blackened[place] = 0
    logits = network.classifier(torch.from_numpy(blackened)).detach().double().numpy()
    return float(np.mean([np.log(np.exp(z).sum()) - z[y] for z, y in zip(logits, labels, strict=True)]))


@pytest.mark.parametrize(("given", "training"), [(True, True), (True, False), (False, True), (False, False)])
def test_given_masks_blacken_in_training_only_and_only_if_asked_for(given, training, network, batch):
    objective = MaskedImages(network, given_masks=given).train(training)

    loss = float(objective(batch)["loss"].detach())

    masks = bright(batch["image"])
    if given and training:
        masks[:3] = batch["mask"][:3]  # the fourth image has no mask
    expected = cross_entropy_by_loops(network, batch["image"], masks, batch["label"].tolist())
    assert loss == pytest.approx(expected, rel=1e-5)


def test_what_predicts_is_what_was_validated(network, batch):
    objective = MaskedImages(network, given_masks=True).eval()

    assert torch.equal(network(batch["image"]), objective(batch)["logits"])


def test_nothing_outside_the_lungs_changes_a_prediction(network, batch):
    changed = torch.where(batch["image"] < 0.5, torch.rand_like(batch["image"]) / 2.1, batch["image"])

    assert torch.equal(network(batch["image"]), network(changed))
    assert not torch.equal(network(batch["image"]), network(batch["image"] ** 0.9))


def test_training_leaves_the_segmenter_as_it_is(network, batch):
    objective = MaskedImages(network, given_masks=False).train()
    before = {key: value.clone() for key, value in network.segmenter.state_dict().items()}
    optimizer = torch.optim.AdamW(objective.parameters(), 0.1, weight_decay=0.5)

    for _ in range(3):
        optimizer.zero_grad()
        objective(batch)["loss"].backward()
        optimizer.step()

    assert all(torch.equal(before[key], value) for key, value in network.segmenter.state_dict().items())
    assert all(p.grad is None for p in network.segmenter.parameters())
    assert all(p.grad is not None for p in network.classifier.parameters())
    assert not network.segmenter.training
    assert network.classifier.training


def test_the_segmenter_sees_images_of_its_own_size_and_its_map_is_resized_back():
    seen = []

    class Watching(BrightIsLung):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.shape)
            return super().forward(images)

    network = LungClassifier(classifier(), Watching(), 16)
    images = torch.zeros(2, 1, 40, 40)
    images[:, :, :, 20:] = 1

    masks = network.lungs(images)

    assert seen == [(2, 1, 16, 16)]
    assert torch.equal(masks, images)


def test_lungs_that_are_not_found_give_a_black_image_and_finite_logits(network):
    images = torch.full((2, 1, 32, 32), 0.2)

    assert torch.equal(network(images), network.classifier(torch.zeros_like(images)))
    assert torch.isfinite(network(images)).all()


@pytest.mark.parametrize("method", [TWO_STAGE, LUNGS_ONLY])
def test_a_map_is_the_classifiers_relevance_and_lies_in_the_mask(method, network, batch):
    logits, maps = method.explanation(network.eval())(batch["image"])

    masks = bright(batch["image"])
    assert torch.allclose(logits, network(batch["image"]), atol=1e-6)
    assert maps.shape == (4, 3, 32, 32)
    assert (maps * (1 - masks) == 0).all()
    assert (maps != 0).any()


def test_two_stage_trains_as_it_predicts_and_lungs_only_with_given_masks(batch):
    found = {}
    for name, options in (("two_stage", {}), ("lungs_only", {}), ("lungs_only", {"given_masks": False})):
        torch.manual_seed(4)
        objective = make_objective(name, TINY, 3, segmenter_size=32, **options)
        found[name, bool(options)] = float(objective(batch)["loss"].detach())

    assert found["two_stage", False] == found["lungs_only", True] != found["lungs_only", False]


def test_the_classifier_starts_from_the_weights_of_a_plain_one():
    torch.manual_seed(4)
    masked = make_objective("two_stage", TINY, 3).network.classifier
    torch.manual_seed(4)
    plain = make_objective("cross_entropy", TINY, 3).network

    assert all(torch.equal(a, b) for a, b in zip(masked.parameters(), plain.parameters(), strict=True))


def test_bfloat16_does_not_reach_the_threshold(network, batch):
    with torch.autocast("cpu", torch.bfloat16):
        terms = MaskedImages(network, given_masks=False)(batch)

    assert torch.isfinite(F.softmax(terms["logits"].float(), 1)).all()
