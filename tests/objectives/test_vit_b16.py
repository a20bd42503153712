"""Method `vit_b16`: the loss of cross-entropy, a network that attends, and its maps."""

import pytest
import torch
import torch.nn.functional as F

from cxr_isnet.errors import InputError
from cxr_isnet.inference import make_explainer
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import find_method
from tests.objective_maker import make_objective

TINY = NetworkConfig("vit_tiny")


def test_the_loss_is_the_cross_entropy_of_the_labels(batch):
    objective = make_objective("vit_b16", TINY, 3)

    terms = objective(batch)

    assert terms["logits"].shape == (4, 3)
    assert torch.equal(terms["loss"], F.cross_entropy(terms["logits"], batch["label"]))


def test_a_batch_can_be_learnt_by_heart(batch):
    objective = make_objective("vit_b16", TINY, 3)
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-3)

    for _ in range(150):
        optimizer.zero_grad()
        loss = objective(batch)["loss"]
        loss.backward()
        optimizer.step()

    assert float(loss.detach()) < 0.1


def test_it_is_explained_by_its_attention(batch):
    objective = make_objective("vit_b16", TINY, 3).eval()
    explainer = make_explainer(objective.network, find_method("vit_b16"), TINY)

    logits, maps = explainer.explain(batch["image"][:1])

    assert maps.shape == (1, 3, 32, 32)
    assert torch.equal(maps, objective.network.attention(batch["image"][:1])[1].detach())
    assert torch.equal(logits, objective.network(batch["image"][:1]))


def test_a_network_that_does_not_attend_is_refused_with_those_that_do():
    with pytest.raises(InputError, match=r"'vit_b16' needs a network of the class VisionTransformer.*vit_b16, vit_tin"):
        make_objective("vit_b16", NetworkConfig("densenet_tiny"), 2)
