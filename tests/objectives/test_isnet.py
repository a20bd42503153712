import pytest
import torch
import torch.nn.functional as F

from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, find_backbone
from cxr_isnet.objectives.background_swap import swap_backgrounds
from cxr_isnet.objectives.balance import TrainingSet
from cxr_isnet.objectives.isnet import ISNetOptions
from cxr_isnet.objectives.methods import find_method
from tests.objective_maker import make_objective

TINY = NetworkConfig("densenet_tiny")
ISNETS = ("isnet", "isnet_dual", "isnet_selective", "isnet_stochastic")


def gradients(objective, batch):
    objective.zero_grad()
    objective(batch)["loss"].backward()
    return {name: p.grad.clone() for name, p in objective.network.named_parameters()}


def difference(a, b):
    """Norm of the difference of two gradients, as a share of the second one's."""
    return float(
        torch.cat([(a[k] - b[k]).flatten() for k in b]).norm() / torch.cat([v.flatten() for v in b.values()]).norm()
    )


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("method", ISNETS)
def test_the_loss_mixes_classification_and_heatmap_loss_by_weight(method, deep_supervision, make, batch):
    terms = make(method, heatmap_weight=0.3, deep_supervision=deep_supervision)(batch)

    assert torch.allclose(terms["classification"], F.cross_entropy(terms["logits"], batch["label"]))
    assert torch.allclose(terms["loss"], 0.7 * terms["classification"] + 0.3 * terms["heatmap"])
    assert terms["heatmap"] > 0


@pytest.mark.parametrize("method", ISNETS)
def test_weight_zero_trains_the_plain_classifier(method, make, batch):
    found = gradients(make(method, heatmap_weight=0.0), batch)

    assert difference(found, gradients(make("cross_entropy"), batch)) < 1e-4


@pytest.mark.parametrize("method", ["isnet", "isnet_selective", "isnet_dual"])
def test_weight_one_does_not_look_at_the_labels(method, make, batch):
    found = gradients(make(method, heatmap_weight=1.0), batch)
    other = gradients(make(method, heatmap_weight=1.0), {**batch, "label": batch["label"].roll(1)})

    assert all(torch.equal(found[k], other[k]) for k in found)
    assert any((g != 0).any() for g in found.values())


@pytest.mark.parametrize("method", ISNETS)
def test_under_bf16_the_weight_gradient_is_that_of_float32(method, make, batch):
    """In bf16 the heatmap loss's gradient has a cosine of 0.1 to 0.5 with the float32 one."""
    single, narrow = (make(method, heatmap_weight=1.0, deep_supervision=True) for _ in range(2))
    torch.manual_seed(3)
    expected = gradients(single, batch)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(narrow, batch)

    flat = [torch.cat([g.flatten() for g in every.values()]) for every in (found, expected)]
    assert F.cosine_similarity(*flat, dim=0) > 0.9999


@pytest.mark.parametrize(
    ("method", "network"),
    [
        ("isnet", "vit_tiny"),
        ("isnet_selective", "vit_tiny"),
        pytest.param("isnet", "efficientnet_b0", marks=pytest.mark.slow),
    ],
)
def test_trains_networks_beyond_relu(method, network, batch):
    torch.manual_seed(1)
    objective = make_objective(method, NetworkConfig(network), 3, deep_supervision=True).train()
    objective.measure(batch)  # with the batch's statistics: an untrained EfficientNet is silent with its running ones
    objective.finish_estimation()
    terms = objective(batch)
    terms["loss"].backward()

    assert terms["heatmap"] > 0
    assert all(p.grad.isfinite().all() for p in objective.network.parameters() if p.grad is not None)
    assert sum(p.grad is not None and bool(p.grad.any()) for p in objective.network.parameters()) > 10


@pytest.mark.slow
@pytest.mark.parametrize("method", ISNETS)
def test_the_whole_objective_compiles_without_a_graph_break(method, make, batch):
    eager, twin = (make(method, heatmap_weight=0.5, deep_supervision=True) for _ in range(2))
    torch.compiler.reset()
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    torch.manual_seed(3)
    expected = eager(batch)
    torch.manual_seed(3)
    found = compiled(batch)

    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    expected["loss"].backward()
    found["loss"].backward()
    flat = [torch.cat([p.grad.flatten() for p in o.network.parameters()]) for o in (twin, eager)]
    assert F.cosine_similarity(*flat, dim=0) > 0.9999


@pytest.mark.parametrize("method", ISNETS)
def test_a_batch_without_masks_trains_the_plain_classifier(method, make, batch):
    unmasked = {**batch, "has_mask": torch.zeros(4, dtype=torch.bool), "mask": torch.zeros_like(batch["mask"])}
    objective = make(method, heatmap_weight=0.5)

    terms = objective(unmasked)

    assert float(terms["heatmap"].detach()) == float(terms["masked"]) == 0
    plain = gradients(make("cross_entropy"), unmasked)
    assert difference(gradients(objective, unmasked), {k: 0.5 * g for k, g in plain.items()}) < 1e-4


def test_an_image_without_a_mask_adds_to_the_classification_only(make, batch):
    objective = make("isnet").eval()
    masked = {key: value[:3] for key, value in batch.items()}

    terms, alone = objective(batch), objective(masked)

    assert float(terms["masked"]) == float(alone["masked"]) == 3
    assert torch.allclose(terms["heatmap"], alone["heatmap"], rtol=1e-4)
    assert not torch.allclose(terms["classification"], alone["classification"])


def test_what_lies_in_the_mask_of_an_image_without_one_does_not_matter(make, batch):
    objective = make("isnet").eval()
    scribbled = batch["mask"].clone()
    scribbled[~batch["has_mask"]] = 1

    assert torch.equal(objective(batch)["loss"], objective({**batch, "mask": scribbled})["loss"])


@pytest.mark.parametrize(
    ("method", "deep_supervision", "shape"),
    [
        ("isnet", False, (1, 1, 2)),
        ("isnet_dual", False, (1, 2, 2)),
        ("isnet_selective", True, (4, 1, 2)),
        ("isnet_dual", True, (4, 2, 2)),
    ],
)
def test_measured_cuts_travel_with_the_state_dict(method, deep_supervision, shape, make, batch):
    objective = make(method, deep_supervision=deep_supervision)
    bounds = objective.state_dict()["bounds"]
    unmeasured = (
        find_method(method)
        .build(objective.network, find_backbone(TINY.name), ISNetOptions(deep_supervision=deep_supervision))
        .train()
    )

    unmeasured.load_state_dict(objective.state_dict())

    assert bounds.shape == shape
    assert (bounds[..., 0] > 0).all()
    assert (bounds[..., 0] < bounds[..., 1]).all()
    assert torch.equal(unmeasured.bounds, bounds)
    assert torch.isfinite(unmeasured(batch)["loss"])


def test_tuning_tells_every_cut_by_layer_and_set_of_rules(batch):
    objective = _built("isnet_dual", {"deep_supervision": True})
    objective.eval().measure(batch)

    shown = objective.finish_estimation()

    assert len(shown) == 4 * 2 * 3
    assert shown["image.0.c1"] == float(objective.bounds[0, 0, 0])
    assert shown["features.transition1.relu.1.c2"] == float(objective.bounds[1, 1, 1])


def test_measuring_in_two_batches_is_measuring_in_one(batch):
    whole, halves = _built("isnet", {}), _built("isnet", {})

    whole.eval().measure(batch)
    for part in (slice(0, 2), slice(2, 4)):
        halves.eval().measure({key: value[part] for key, value in batch.items()})
    whole.finish_estimation(), halves.finish_estimation()

    assert torch.allclose(whole.bounds, halves.bounds, rtol=1e-4)


def test_measuring_leaves_no_gradients_and_changes_no_weights(batch):
    objective = _built("isnet", {}).eval()
    before = {key: value.clone() for key, value in objective.network.state_dict().items()}

    objective.measure(batch)

    assert all(p.grad is None for p in objective.parameters())
    assert all(torch.equal(before[key], value) for key, value in objective.network.state_dict().items())


def test_training_before_the_cuts_are_measured_is_reported_to_be_too_early(batch):
    with pytest.raises(InputError, match="not estimated yet: train with bound_estimation_epochs, or give bounds"):
        _built("isnet", {})(batch)


def test_given_cuts_need_no_tuning(batch):
    objective = _built("isnet", {"bounds": [0.5, 2.0], "deep_supervision": False})

    assert objective.bound_estimation_epochs == 0
    assert objective.bounds.tolist() == [[[0.5, 2.0]]]
    assert torch.isfinite(objective(batch)["loss"])


@pytest.mark.parametrize(("method", "deep_supervision"), [("isnet_dual", False), ("isnet", True)])
def test_given_cuts_are_refused_where_several_maps_need_their_own(method, deep_supervision):
    with pytest.raises(InputError, match="for a single map only"):
        _built(method, {"bounds": [0.5, 2.0], "deep_supervision": deep_supervision})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heatmap_weight": 1.5}, r"heatmap_weight is 1.5.*\[0, 1\]"),
        ({"heatmap_weight": -0.1}, r"heatmap_weight is -0.1.*\[0, 1\]"),
        ({"bound_estimation_epochs": 0}, "bound_estimation_epochs is 0.*at least 1"),
        ({"bounds": [2.0, 0.5]}, "0 < C1 < C2"),
        ({"background_swap": 1.5}, r"background_swap is 1.5.*\[0, 1\]"),
        ({"epsilon": -1.0}, "epsilon is -1.0.*0 or more"),
        ({"loss": {"decay": 1.5}}, r"loss.decay is 1.5.*\[0, 1\]"),
        ({"loss": {"activation": 0.0}}, "loss.activation is 0.0.*above 0"),
    ],
)
def test_a_setting_out_of_its_range_is_reported_with_the_range(options, message):
    with pytest.raises(InputError, match=message):
        find_method("isnet").parse_options(options)


def test_stochastic_draws_the_same_classes_from_the_same_seed(make, batch):
    objective = make("isnet_stochastic").eval()

    def heatmaps(seed):
        torch.manual_seed(seed)
        return float(objective(batch)["heatmap"].detach())

    drawn = {seed: heatmaps(seed) for seed in range(6)}

    assert all(heatmaps(seed) == value for seed, value in drawn.items())
    assert len(set(drawn.values())) > 1


def test_a_batch_can_be_learnt_by_heart_and_its_relevance_moved_into_the_lungs(make, batch):
    objective = make("isnet", heatmap_weight=0.3)
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-3)
    first = {key: float(value.detach()) for key, value in objective(batch).items() if value.dim() == 0}

    for _ in range(150):
        optimizer.zero_grad()
        terms = objective(batch)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()

    assert float(terms["classification"].detach()) < 0.2 * first["classification"]
    assert float(terms["background"].detach()) < 0.7 * first["background"]


@pytest.mark.parametrize("method", ["isnet", "isnet_selective", "isnet_dual", "isnet_grad_input"])
def test_with_swapped_backgrounds_a_step_is_one_on_the_images_of_the_background_swap(method, make, batch):
    swapping, plain = make(method, background_swap=1.0), make(method)
    torch.manual_seed(5)
    shown, swapped = swap_backgrounds(batch, 1.0)
    assert swapped.any()
    torch.manual_seed(5)

    found, expected = swapping(batch), plain({**batch, "image": shown})

    assert {name: float(found[name]) for name in ("loss", "classification", "heatmap")} == {
        name: float(expected[name]) for name in ("loss", "classification", "heatmap")
    }
    assert float(found["heatmap"]) != float(plain(batch)["heatmap"])


def test_validation_images_keep_their_background(make, batch):
    swapping, plain = make("isnet", background_swap=1.0).eval(), make("isnet").eval()

    assert torch.equal(swapping(batch)["loss"], plain(batch)["loss"])


def _built(method, options):
    torch.manual_seed(1)
    return make_objective(method, TINY, 3, **options)


@pytest.mark.parametrize(
    ("method", "classes", "told"),
    [
        ("isnet", 14, "about 15 times"),
        ("isnet", 5, ""),
        ("isnet_selective", 14, ""),
        ("isnet_grad_input", 6, "about 7"),
    ],
)
def test_what_many_classes_cost_is_said_at_the_start_of_a_training(method, classes, told, caplog):
    objective = make_objective(method, TINY, classes)

    zeros = torch.zeros(3, dtype=torch.int64)
    objective.see_training_set(TrainingSet(zeros, zeros, classes, 1))

    assert (told in caplog.text and "isnet_selective" in caplog.text) if told else not caplog.text


def test_inner_layers_can_be_named(batch):
    objective = make_objective("isnet", TINY, 3, layers=["features.pool0"])

    objective.measure(batch)

    assert {name.rpartition(".")[0] for name in objective.finish_estimation()} == {"image", "features.pool0"}


def test_an_inner_layer_that_the_network_lacks_is_reported():
    with pytest.raises(InputError, match=r"no module 'features\.pool9'.*features\.pool0"):
        make_objective("isnet", TINY, 3, layers=["features.pool9"])
