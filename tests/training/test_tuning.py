from dataclasses import replace

import pytest
import torch

from cxr_isnet.data import make_dataset, make_loader
from cxr_isnet.objectives.registry import METHODS
from cxr_isnet.training.distributed import Processes
from cxr_isnet.training.tables import read_tables
from cxr_isnet.training.tuning import tune

HERE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture
def tuned(make_config):
    """A maker of objectives that went through the tuning phase: objective, its first weights, what was tuned."""

    def make(method="isnet", **options):
        config = make_config(method=method)
        tables = read_tables(config.data, config.seed)
        torch.manual_seed(0)
        objective = METHODS.get(method).objective(config.network, 2, options)
        first = {key: value.clone() for key, value in objective.network.state_dict().items()}
        data = make_dataset(tables.training, config.data.classes, config.data.image)
        shuffled = make_loader(data, batch_size=4, shuffle=True, seed=0, drop_last=True)
        in_order = make_loader(data, batch_size=4, shuffle=False, seed=0)
        return objective, first, tune(objective, shuffled, in_order, in_order, replace(config, epochs=1), HERE)

    return make


def test_tuning_sets_the_cuts_and_puts_the_first_weights_back(tuned):
    objective, first, told = tuned(tuning_epochs=1)

    assert 0 < told["image.c1"] < told["image.c2"]
    assert objective.cuts.flatten().tolist() == [told["image.c1"], told["image.c2"]]
    assert all(torch.equal(first[key], value) for key, value in objective.network.state_dict().items())


def test_the_cuts_are_those_of_a_trained_network(tuned):
    _, _, short = tuned(tuning_epochs=1)
    _, _, longer = tuned(tuning_epochs=2)

    assert short["image.mean"] != longer["image.mean"]


def test_given_cuts_and_plain_classifiers_are_not_tuned(tuned):
    given, _, nothing = tuned(cuts=[0.5, 2.0])
    _, _, nothing_either = tuned("densenet121")

    assert nothing == nothing_either == {}
    assert given.cuts.flatten().tolist() == [0.5, 2.0]
