"""Method `multitask_unet`: its loss against loops in float64, what it trains, and its edges."""

import numpy as np
import pytest
import torch

from cxr_isnet.errors import InputError
from cxr_isnet.inference import make_explainer
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.method import Explanation
from cxr_isnet.objectives.methods import find_method
from tests.objective_maker import make_objective

TINY = NetworkConfig("multitask_unet_tiny")


def overlap_in_loops(logits: np.ndarray, mask: np.ndarray) -> float:
    """1 - soft Dice + binary cross-entropy of one image; 1e-5 as in MONAI's Dice."""
    both = total = entropy = 0.0
    for z, inside in zip(logits.ravel(), mask.ravel(), strict=True):
        p = 1 / (1 + np.exp(-z))
        both += p * inside
        total += p + inside
        entropy -= inside * np.log(p) + (1 - inside) * np.log(1 - p)
    return 1 - (2 * both + 1e-5) / (total + 1e-5) + entropy / mask.size


def test_the_loss_is_that_of_the_formula_in_loops(batch):
    objective = make_objective("multitask_unet", TINY, 3, segmentation_weight=0.3).eval()

    terms = {k: v.detach() for k, v in objective(batch).items()}

    logits, lungs = (part.detach().double().numpy() for part in objective.network.logits_and_mask(batch["image"]))
    entropies = [np.log(np.exp(z - z[y]).sum()) for z, y in zip(logits, batch["label"].tolist(), strict=True)]
    overlaps = [overlap_in_loops(lungs[i, 0], batch["mask"][i, 0].double().numpy()) for i in range(3)]
    assert float(terms["classification"]) == pytest.approx(np.mean(entropies), rel=1e-5)
    assert float(terms["segmentation"]) == pytest.approx(np.mean(overlaps), rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(0.7 * np.mean(entropies) + 0.3 * np.mean(overlaps), rel=1e-5)
    assert float(terms["masked"]) == 3


def test_every_weight_gets_a_gradient(batch):
    objective = make_objective("multitask_unet", TINY, 3).train()

    objective(batch)["loss"].backward()

    assert [n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_batch_can_be_learnt_by_heart_labels_and_lungs(batch):
    torch.manual_seed(1)
    objective = make_objective("multitask_unet", TINY, 3).train()
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    first = {k: float(v.detach()) for k, v in objective(batch).items() if v.dim() == 0}

    for _ in range(60):
        optimizer.zero_grad()
        terms = objective(batch)
        terms["loss"].backward()
        optimizer.step()

    assert float(terms["classification"].detach()) < 0.1 * first["classification"]
    assert float(terms["segmentation"].detach()) < 0.4 * first["segmentation"]


def test_images_without_a_mask_add_classification_only(batch):
    objective = make_objective("multitask_unet", TINY, 3).eval()
    scribbled = {**batch, "mask": batch["mask"] + (~batch["has_mask"]).view(-1, 1, 1, 1).float()}
    unmasked = {**batch, "has_mask": torch.zeros(4, dtype=torch.bool)}

    assert torch.equal(objective(scribbled)["segmentation"], objective(batch)["segmentation"])
    assert float(objective(unmasked)["segmentation"].detach()) == 0
    objective.train()(unmasked)["loss"].backward()
    assert all(p.grad is not None for p in objective.parameters())


def test_an_empty_mask_counts_as_none(batch):
    objective = make_objective("multitask_unet", TINY, 3).eval()
    emptied = {**batch, "mask": torch.zeros_like(batch["mask"]), "has_mask": torch.ones(4, dtype=torch.bool)}

    terms = objective(emptied)

    assert float(terms["segmentation"].detach()) == float(terms["masked"]) == 0


def test_one_image_is_a_batch(batch):
    objective = make_objective("multitask_unet", TINY, 3)
    single = {k: v[:1] for k, v in batch.items()}

    assert torch.isfinite(objective.train()(single)["loss"])
    assert objective.eval()(single)["logits"].shape == (1, 3)


def test_it_is_explained_by_relevance(batch):
    objective = make_objective("multitask_unet", TINY, 3).eval()

    logits, maps = make_explainer(objective.network, find_method("multitask_unet"), TINY).explain(batch["image"])

    assert find_method("multitask_unet").explanation is Explanation.LRP
    assert torch.equal(logits, objective.network(batch["image"]).detach())
    assert maps.shape == (4, 3, 32, 32)


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_weight_out_of_its_range_is_reported(weight):
    with pytest.raises(InputError, match=rf"segmentation_weight is {weight}.*\[0, 1\]"):
        find_method("multitask_unet").parse_options({"segmentation_weight": weight})


def test_a_network_that_does_not_segment_is_refused_with_those_that_do():
    with pytest.raises(InputError, match=r"a network of the class MultitaskUNet.*multitask_unet, multitask_unet_"):
        make_objective("multitask_unet", NetworkConfig("densenet_tiny"), 2)
