"""ISNet's gradient ablations, against finite differences and explicit loops in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from cxr_isnet.networks import Backbone, NetworkConfig
from cxr_isnet.objectives.methods import find_method
from tests.objective_maker import make_objective

STEP, ETA = 1e-6, 1e-10
C1, C2, DECAY, P = 0.3, 0.9, 0.7, 0.4


def convolutions(classes: int, image_size: int, dropout: float) -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes)).double()


CONVOLUTIONS = Backbone("convolutions", convolutions, has_relevance_rules=True)


def quantities(method: str, logits: np.ndarray, top: int) -> np.ndarray:
    """What the maps of one image explain."""
    if method == "isnet_grad_input":
        return logits
    return np.exp(logits[top : top + 1]) / np.exp(logits).sum()


def maps_by_differences(method: str, network: nn.Module, image: np.ndarray) -> np.ndarray:
    """(K, H, W): every pixel times the change of the quantity with it."""

    def logits(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(pixels)[None, None])[0].numpy()

    top = int(logits(image).argmax())
    found = np.zeros((len(quantities(method, logits(image), top)), *image.shape))
    for place in np.ndindex(*image.shape):
        up, down = image.copy(), image.copy()
        up[place] += STEP
        down[place] -= STEP
        change = quantities(method, logits(up), top) - quantities(method, logits(down), top)
        found[:, place[0], place[1]] = image[place] * change / (2 * STEP)
    return found


def heatmap_loss_by_loops(maps: np.ndarray, mask: np.ndarray) -> float:
    """w1 = 1, w2 = 3, E = 1 (comparison models of Nature Communications 15:291)."""
    background, foreground = [], []
    for found in np.abs(maps):
        outside = sorted((found / ((found * mask).sum() / (mask.sum() + ETA) + ETA) * (1 - mask)).ravel(), reverse=True)
        weights = [DECAY**i for i in range(len(outside))]
        pooled = sum(w * u for w, u in zip(weights, outside, strict=True)) / sum(weights)
        background.append(np.log(1 + pooled))
        inside = (found * mask).sum()
        foreground.append((1 - min(inside / C1, 1)) ** 2 + (max(inside - C2, 0) / C1) ** 2)
    return float(np.mean(background) + 3 * np.mean(foreground))


@pytest.mark.parametrize("method", ["isnet_grad_input", "isnet_softmax_grad_input"])
def test_the_heatmap_loss_is_that_of_the_gradient_times_the_image(method, batch):
    torch.manual_seed(2)
    options = {"bounds": [C1, C2], "heatmap_weight": P, "loss": {"decay": DECAY, "activation": 1.0}}
    network = NetworkConfig(f"{__name__}.CONVOLUTIONS")
    objective = make_objective(method, network, 3, **options).eval()
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}

    terms = objective(batch)

    image, mask = batch["image"].numpy()[:, 0], batch["mask"].numpy()[:, 0]
    masked = [0, 1, 2]  # the fourth image has no mask
    expected = [
        heatmap_loss_by_loops(maps_by_differences(method, objective.network, image[i]), mask[i]) for i in masked
    ]
    assert float(terms["heatmap"]) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(
        0.6 * float(terms["classification"]) + 0.4 * np.mean(expected), rel=1e-5
    )


def test_maps_do_not_shrink_with_the_batch(make, batch):
    alone, twice = make("isnet_grad_input").eval(), make("isnet_grad_input").eval()

    alone.measure(batch)
    twice.measure({key: torch.cat((value, value)) for key, value in batch.items()})

    assert alone.finish_estimation()["image.mean"] == pytest.approx(twice.finish_estimation()["image.mean"])


def test_an_epsilon_can_be_given_and_is_zero_otherwise():
    method = find_method("isnet_grad_input")

    assert method.parse_options({}).epsilon == 0
    assert method.parse_options({"epsilon": 0.01}).epsilon == 0.01
