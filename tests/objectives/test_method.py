import pytest
import torch
from torch import nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives import check_batch
from cxr_isnet.objectives.isnet import ISNetOptions
from cxr_isnet.objectives.methods import METHODS, find_method
from tests.objective_maker import make_objective

STUDY = ("cross_entropy", "isnet", "isnet_dual", "isnet_selective", "isnet_stochastic")


def gradients(objective: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in objective.network.parameters()]


def test_the_methods_of_the_study_are_there():
    assert set(STUDY) <= {m.name for m in METHODS}


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("method", STUDY)
def test_every_method_gives_a_finite_loss_and_gradients_for_every_weight(method, deep_supervision, make, batch):
    options = {} if method == "cross_entropy" else {"deep_supervision": deep_supervision}
    objective = make(method, **options)

    terms = objective(batch)
    terms["loss"].backward()

    assert all(torch.isfinite(value).all() for value in terms.values())
    assert all(g is not None and torch.isfinite(g).all() for g in gradients(objective))
    assert any((g != 0).any() for g in gradients(objective))


@pytest.mark.parametrize("method", STUDY)
def test_every_method_answers_with_logits_and_scalar_terms(method, make, batch):
    terms = make(method)(batch)

    assert terms["logits"].shape == (4, 3)
    assert all(value.dim() == 0 for name, value in terms.items() if name != "logits")


def test_the_methods_of_the_study_take_densenet121_unless_told_otherwise():
    assert {find_method(name).network for name in STUDY} == {"densenet121"}


@pytest.mark.parametrize("name", [method.name for method in METHODS])
def test_every_methods_own_network_gives_what_it_needs(name):
    method = find_method(name)

    method.check_network(NetworkConfig(method.network), 224)


def test_options_are_read_as_a_yaml_file_spells_them():
    options = find_method("isnet").parse_options({"heatmap_weight": 0.9, "loss": {"decay": 0.95, "form": "hybrid"}})

    assert isinstance(options, ISNetOptions)
    assert (options.heatmap_weight, options.loss.decay, options.loss.form.value) == (0.9, 0.95, "hybrid")


@pytest.mark.parametrize("options", [{"heatmap_wieght": 0.5}, {"loss": {"dekay": 0.5}}, {"epsilon": "small"}])
def test_an_option_that_cannot_be_read_is_reported_with_the_options_there_are(options):
    with pytest.raises(InputError, match=r"(?s)options of method 'isnet'.*heatmap_weight.*bound_estimation_epochs"):
        find_method("isnet").parse_options(options)


def test_an_option_of_cross_entropy_is_reported_to_be_one_too_many():
    with pytest.raises(InputError, match=r"options of method 'cross_entropy'.*none"):
        find_method("densenet121").parse_options({"heatmap_weight": 0.5})


def test_an_unknown_method_is_reported_with_the_methods_there_are():
    with pytest.raises(InputError, match=r"'isnett'.*cross_entropy.*isnet_dual"):
        find_method("isnett")


def test_an_unknown_network_is_reported_with_the_networks_there_are():
    with pytest.raises(InputError, match=r"'vgg'.*densenet_small"):
        make_objective("isnet", NetworkConfig("vgg"), 2)


def test_explaining_a_network_does_not_change_the_answer_it_is_trained_for(make, batch):
    objective = make("isnet").eval()

    assert torch.allclose(objective(batch)["logits"], objective.network(batch["image"]), atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mask", torch.zeros(4, 1, 1, 1), r"mask has shape \(4, 1, 1, 1\), image \(4, 1, 32, 32\): give one of"),
        ("has_mask", torch.ones(1, dtype=torch.bool), r"has_mask has shape \(1,\) for 4 images: give one for each"),
        ("label", torch.zeros(4, 1, dtype=torch.int64), r"label has shape \(4, 1\) for 4 images"),
        ("site", torch.zeros(3, dtype=torch.int64), r"site has shape \(3,\) for 4 images"),
    ],
)
def test_a_batch_whose_tensors_do_not_belong_together_is_reported(key, value, message, batch):
    whole = {**batch, "site": torch.zeros(4, dtype=torch.int64)}
    check_batch(whole)

    with pytest.raises(InputError, match=message):
        check_batch({**whole, key: value})
