import pytest
import torch

from cxr_isnet.data import make_dataset, make_loader
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.settings import TrainerSettings
from cxr_isnet.training import bound_estimation
from cxr_isnet.training.bound_estimation import estimate_bounds
from cxr_isnet.training.partitions import read_partitions
from tests.objective_maker import make_objective

HERE = DistributedContext(0, 1, torch.device("cpu"))


@pytest.fixture
def estimated(make_config):
    """A maker of objectives whose bounds were estimated: objective, its first weights, the bounds."""

    def make(method="isnet", **options):
        config = make_config(method=method)
        tables = read_partitions(config.data, config.seed)
        torch.manual_seed(0)
        objective = make_objective(method, config.network, 2, **options)
        first = {key: value.clone() for key, value in objective.network.state_dict().items()}
        data = make_dataset(tables.training, config.data.classes, config.data.image)
        shuffled = make_loader(data, batch_size=4, shuffle=True, seed=0, drop_last=True)
        in_order = make_loader(data, batch_size=4, shuffle=False, seed=0)
        return (
            objective,
            first,
            estimate_bounds(
                objective, shuffled, in_order, in_order, TrainerSettings(config.optimizer, 1, config.seed), HERE
            ),
        )

    return make


def test_estimation_sets_the_bounds_and_puts_the_first_weights_back(estimated):
    objective, first, shown = estimated(bound_estimation_epochs=1, deep_supervision=False)

    assert 0 < shown["image.c1"] < shown["image.c2"]
    assert objective.bounds.flatten().tolist() == [shown["image.c1"], shown["image.c2"]]
    assert all(torch.equal(first[key], value) for key, value in objective.network.state_dict().items())


def test_the_bounds_are_those_of_a_trained_network(estimated):
    _, _, short = estimated(bound_estimation_epochs=1)
    _, _, longer = estimated(bound_estimation_epochs=2)

    assert short["image.mean"] != longer["image.mean"]


def test_the_bounds_do_not_depend_on_how_slowly_the_running_statistics_follow(estimated, monkeypatch):
    _, _, usual = estimated(bound_estimation_epochs=1)
    build = bound_estimation.CrossEntropy

    def slow(network):
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1e-4
        return build(network)

    monkeypatch.setattr(bound_estimation, "CrossEntropy", slow)
    _, _, lagging = estimated(bound_estimation_epochs=1)

    assert lagging == pytest.approx(usual, rel=1e-4)


def test_given_bounds_and_plain_classifiers_are_not_measured(estimated):
    given, _, nothing = estimated(bounds=[0.5, 2.0], deep_supervision=False)
    _, _, nothing_either = estimated("cross_entropy")

    assert nothing == nothing_either == {}
    assert given.bounds.flatten().tolist() == [0.5, 2.0]
