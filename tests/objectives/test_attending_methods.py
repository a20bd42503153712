"""Methods `vit_b16` and `ag_sononet`: the loss of cross-entropy, a network that attends, and its maps."""

import pytest
import torch
import torch.nn.functional as F

from cxr_isnet.errors import InputError
from cxr_isnet.inference import make_explainer
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.methods import find_method
from tests.objective_maker import make_objective

TINY = {"vit_b16": NetworkConfig("vit_tiny"), "ag_sononet": NetworkConfig("ag_sononet_tiny")}

pytestmark = pytest.mark.parametrize("method", TINY)


def test_the_loss_is_the_cross_entropy_of_the_labels(method, batch):
    objective = make_objective(method, TINY[method], 3)

    terms = objective(batch)

    assert terms["logits"].shape == (4, 3)
    assert torch.equal(terms["loss"], F.cross_entropy(terms["logits"], batch["label"]))


def test_a_batch_can_be_learnt_by_heart(method, batch):
    objective = make_objective(method, TINY[method], 3)
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-3)

    for _ in range(150):
        optimizer.zero_grad()
        loss = objective(batch)["loss"]
        loss.backward()
        optimizer.step()

    assert float(loss.detach()) < 0.1


def test_it_is_explained_by_its_attention(method, batch):
    objective = make_objective(method, TINY[method], 3).eval()
    explainer = make_explainer(objective.network, find_method(method), TINY[method])

    logits, maps = explainer.explain(batch["image"][:1])

    assert maps.shape == (1, 3, 32, 32)
    assert torch.equal(maps, objective.network.attention(batch["image"][:1])[1].detach())
    assert torch.equal(logits, objective.network(batch["image"][:1]))


def test_a_network_of_another_class_is_refused_with_those_that_fit(method):
    with pytest.raises(
        InputError, match=rf"'{method}' needs a network of the class .*: choose one of {method}, .*tiny$"
    ):
        make_objective(method, NetworkConfig("densenet_tiny"), 2)
