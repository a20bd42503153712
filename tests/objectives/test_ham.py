"""Method `ham`: its loss against loops in float64, what it trains, and its edges."""

import numpy as np
import pytest
import torch

from cxr_isnet.errors import InputError
from cxr_isnet.inference import make_explainer
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives.ham import HAMOptions
from cxr_isnet.objectives.methods import find_method
from tests.objective_maker import make_objective

TINY = NetworkConfig("ham_tiny")


def sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def enlarged(map_: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, pixel centres aligned, the border repeated."""
    scale, found = map_.shape[0] / size, np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            y, x = (min(max((at + 0.5) * scale - 0.5, 0), map_.shape[0] - 1) for at in (row, column))
            top, left = int(y), int(x)
            bottom, right = min(top + 1, map_.shape[0] - 1), min(left + 1, map_.shape[0] - 1)
            upper = map_[top, left] * (1 - x + left) + map_[top, right] * (x - left)
            lower = map_[bottom, left] * (1 - x + left) + map_[bottom, right] * (x - left)
            found[row, column] = upper * (1 - y + top) + lower * (y - top)
    return found


def refined(evidence: np.ndarray, threshold: float) -> np.ndarray:
    map_ = enlarged(np.maximum(evidence, 0), 32)
    return sigmoid(100 * ((map_ - map_.min()) / max(map_.max() - map_.min(), 1e-8) - threshold))


def outside(pairs: list[tuple[np.ndarray, np.ndarray]], threshold: float) -> float:
    total = sum(c.sum() for c, _ in pairs)
    inside = sum((np.minimum(c, other) * sigmoid(100 * (c - threshold))).sum() for c, other in pairs)
    return (total - inside) / max(total, 1e-5)


@pytest.mark.parametrize("normal", [0, 1])
def test_the_loss_is_that_of_the_formulas_in_loops(batch, normal):
    torch.manual_seed(2)
    settings = {"anomaly_weight": 0.3, "bound_weight": 0.5, "union_weight": 0.7, "mask_weight": 0.9, "threshold": 0.45}
    objective = make_objective("ham", TINY, 3, normal_class=normal, **settings).eval()
    labels = batch["label"].tolist()

    terms = {name: value.detach() for name, value in objective(batch).items()}

    logits, evidence = (
        part.detach().double().numpy() for part in objective.network.logits_and_evidence(batch["image"])
    )
    diseases = [k for k in range(3) if k != normal]
    entropies = []
    for b, label in enumerate(labels):
        for k in diseases:
            p = sigmoid(logits[b, k])
            entropies.append(-np.log(p if label == k else 1 - p))
    p = [sigmoid(-logits[b, normal]) for b in range(4)]
    anomaly = np.mean([-np.log(1 - p[b] if labels[b] == normal else p[b]) for b in range(4)])
    maps = {(b, k): refined(evidence[b, k], 0.45) for b in range(4) for k in diseases}
    anomaly_maps = [refined(-evidence[b, normal], 0.45) for b in range(4)]
    of_class = {k: [b for b in range(4) if labels[b] == k] for k in diseases}
    bound = np.mean([outside([(maps[b, k], anomaly_maps[b]) for b in rows], 0.45) for k, rows in of_class.items()])
    ill = [b for b in range(4) if labels[b] != normal]
    union = outside([(anomaly_maps[b], maps[b, labels[b]]) for b in ill], 0.45)
    differences = []
    for k, rows in of_class.items():
        rows = [b for b in rows if batch["has_mask"][b]]
        masks = {b: batch["mask"][b, 0].double().numpy() for b in rows}
        if rows:
            squares = sum(((maps[b, k] - masks[b]) ** 2).sum() for b in rows)
            differences.append(squares / sum(maps[b, k].sum() + masks[b].sum() for b in rows))
    expected = {
        "diseases": np.mean(entropies),
        "anomaly": anomaly,
        "bound": bound,
        "union": union,
        "mask": np.mean(differences),
    }
    expected["loss"] = expected["diseases"] + 0.3 * anomaly + 0.5 * bound + 0.7 * union + 0.9 * expected["mask"]
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=2e-3), name
    assert all(value > 0 for value in expected.values())


def test_the_settings_of_the_paper_are_the_usual_ones():
    assert find_method("ham").parse_options({}) == HAMOptions(0, 0.01, 0.001, 0.001, 0.5, 0.4)


def test_the_more_likely_an_anomaly_the_less_likely_the_normal_class(batch):
    """The binary logit of 'any anomaly' is the normal class's, negated: the softmax of all is what is evaluated."""
    objective = make_objective("ham", TINY, 3, anomaly_weight=1e3, mask_weight=0.0, bound_weight=0.0, union_weight=0.0)
    batch = {**batch, "label": torch.tensor([0, 0, 2, 1])}
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)

    for _ in range(60):
        optimizer.zero_grad()
        terms = objective(batch)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()

    normal = terms["logits"].softmax(1)[:, 0]
    assert (normal[:2] > 0.5).all()
    assert (normal[2:] < 0.5).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_a_batch_can_be_learnt_by_heart_and_its_maps_moved_into_the_lungs(batch, classes):
    torch.manual_seed(1)
    objective = make_objective("ham", TINY, classes).train()
    batch = {**batch, "label": batch["label"].clamp_max(classes - 1)}
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    first = {k: float(v.detach()) for k, v in objective(batch).items() if v.dim() == 0}

    for _ in range(120):
        optimizer.zero_grad()
        terms = objective(batch)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()

    assert terms["logits"].argmax(1).tolist() == batch["label"].tolist()
    assert float(terms["diseases"].detach()) < 0.2 * first["diseases"]
    assert float(terms["mask"].detach()) < 0.9 * first["mask"]


def test_every_weight_gets_a_gradient_once_the_attention_has_a_scale(batch):
    objective = make_objective("ham", TINY, 3).train()
    for scale in (objective.network.foreground.channel_scale, objective.network.foreground.position_scale):
        torch.nn.init.constant_(scale, 0.1)

    objective(batch)["loss"].backward()

    assert [n for n, p in objective.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("term", ["bound", "union", "mask"])
def test_each_term_of_the_maps_moves_the_convolutions_and_not_the_last_layer(term, batch):
    objective = make_objective("ham", TINY, 3).train()

    objective(batch)[term].backward()

    assert objective.network.resnet.conv1.weight.grad.abs().max() > 0
    assert objective.network.head.weight.grad is None


def test_images_without_a_mask_and_normal_ones_have_no_target(batch):
    objective = make_objective("ham", TINY, 3).eval()
    scribbled = batch["mask"].clone()
    scribbled[[0, 3]] = 1 - scribbled[[0, 3]]  # the normal image, and the one without mask
    unmasked = {**batch, "has_mask": torch.zeros(4, dtype=torch.bool)}
    healthy = {**batch, "label": torch.zeros(4, dtype=torch.int64)}

    assert torch.equal(objective({**batch, "mask": scribbled})["mask"], objective(batch)["mask"])
    assert float(objective(unmasked)["mask"].detach()) == 0
    terms = objective(healthy)
    assert [float(terms[name].detach()) for name in ("bound", "union", "mask")] == [0, 0, 0]
    terms["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters())


def test_an_empty_mask_counts_as_none(batch):
    objective = make_objective("ham", TINY, 3).eval()
    emptied = {**batch, "mask": torch.zeros_like(batch["mask"]), "has_mask": torch.ones(4, dtype=torch.bool)}

    terms = objective(emptied)

    assert float(terms["mask"].detach()) == float(terms["masked"]) == 0


def test_one_image_is_a_batch(batch):
    objective = make_objective("ham", TINY, 3)
    single = {k: v[1:2] for k, v in batch.items()}

    assert torch.isfinite(objective.train()(single)["loss"])
    assert objective.eval()(single)["logits"].shape == (1, 3)


def test_it_is_explained_by_its_activation_maps(batch):
    objective = make_objective("ham", TINY, 3).eval()

    logits, maps = make_explainer(objective.network, find_method("ham"), TINY).explain(batch["image"])

    assert torch.equal(maps, objective.network.attention(batch["image"])[1].detach())
    assert torch.equal(logits, objective.network(batch["image"]).detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal_class": -1}, "normal_class is -1.*0 or more"),
        ({"mask_weight": -0.5}, "mask_weight is -0.5.*0 or more"),
        ({"threshold": 0.0}, "threshold is 0.0.*between 0 and 1"),
    ],
)
def test_a_setting_out_of_its_range_is_reported_with_the_range(options, message):
    with pytest.raises(InputError, match=message):
        find_method("ham").parse_options(options)


def test_a_normal_class_that_there_is_not_is_reported_with_the_classes_there_are():
    with pytest.raises(InputError, match=r"normal_class is 3, but there are 3 classes: give its index.*0 to 2"):
        make_objective("ham", TINY, 3, normal_class=3)


def test_a_network_without_activation_maps_is_refused_with_those_that_have_them():
    with pytest.raises(InputError, match=r"'ham' needs a network of the class HierarchicalAttention.*ham, ham_tiny"):
        make_objective("ham", NetworkConfig("resnet18"), 2)
