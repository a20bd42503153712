"""What holds of every method in `METHODS`; a new one is covered when it is listed there.

A method that needs more than its defaults on a tiny network has a line in `NETWORKS` or `OPTIONS`, one with a frozen
part the prefix of its weights in `FROZEN`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cxr_isnet.config import as_plain
from cxr_isnet.data import ImageConfig
from cxr_isnet.engine import run_directory, to_device
from cxr_isnet.engine.checkpoint import load_state, save_state
from cxr_isnet.engine.settings import OptimizerConfig
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig, SegmenterConfig, build_network, build_segmenter
from cxr_isnet.objectives import Method, Objective, TrainingSet
from cxr_isnet.objectives.methods import METHODS, options_by_method
from cxr_isnet.segmentation import Segmenter
from cxr_isnet.training import TrainConfig, train
from tests.checkpoints import Killed, assert_same

SIZE = 32
CLASSES = ("normal", "tuberculosis", "other")
DENSENET = NetworkConfig("densenet_tiny")
LUNGS = SegmenterConfig((4, 8))

NETWORKS = {
    "vit_b16": NetworkConfig("vit_tiny"),
    "multitask_unet": NetworkConfig("multitask_unet_tiny"),
    "ag_sononet": NetworkConfig("ag_sononet_tiny"),
    "ham": NetworkConfig("ham_tiny"),
}
"""Of methods that cannot train `densenet_tiny`."""
OPTIONS: dict[str, dict[str, Any]] = {
    **{
        m.name: {"heatmap_weight": 0.1, "bounds": [0.01, 100.0], "deep_supervision": False}
        for m in METHODS
        if m.name.startswith("isnet")
    },
    "isnet_dual": {"heatmap_weight": 0.1, "deep_supervision": False},
    "two_stage": {"segmenter_network": {"channels": [4, 8]}, "segmenter_size": SIZE},
    "lungs_only": {"segmenter_network": {"channels": [4, 8]}, "segmenter_size": SIZE},
}
FROZEN = {"two_stage": "segmenter.", "lungs_only": "segmenter.", "linear_probe": "encoder."}
WITHOUT_MASKS_ZERO = {"heatmap", "background", "foreground", "penalty", "masked"}
"""Terms that are made of masks."""
SLOW = {"isnet", "isnet_selective", "isnet_stochastic", "isnet_dual", "isnet_softmax_grad_input", "lungs_only"}
"""Their trainings run the code of another method's."""

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
every_method_but_slow_ones = pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.slow] if m.name in SLOW else [], id=m.name) for m in METHODS]
)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Four images that differ in the lungs by class, of two hospitals; the last has no mask."""
    label = torch.tensor([0, 1, 2, 1])
    mask = torch.zeros(4, 1, SIZE, SIZE)
    mask[:, :, 6:26, 4:13] = mask[:, :, 6:26, 19:28] = 1
    image = torch.rand(4, 1, SIZE, SIZE) * 0.5 + mask * label[:, None, None, None] * 0.2
    has_mask = torch.tensor([True, True, True, False])
    mask[~has_mask] = 0
    return {"image": image, "mask": mask, "has_mask": has_mask, "label": label, "site": torch.tensor([0, 1, 0, 0])}


@pytest.fixture
def make(batch: dict[str, torch.Tensor]) -> Callable[..., Objective]:
    """A maker of objectives in training mode, that know their training set, with bounds measured on the batch."""

    def objective(method: Method) -> Objective:
        torch.manual_seed(1)
        options = method.parse_options(OPTIONS.get(method.name, {}))
        built = method.objective(network_of(method), len(CLASSES), SIZE, options)
        for name, parameter in built.network.named_parameters():
            if name.endswith("_scale"):  # learned from 0, at which what it scales has no gradient
                nn.init.constant_(parameter, 0.1)
        built.see_training_set(TrainingSet(batch["label"], batch["site"], len(CLASSES), 2))
        if built.bound_estimation_epochs:
            built.eval().measure(batch)
            built.finish_estimation()
        return built.train()

    return objective


def network_of(method: Method) -> NetworkConfig:
    return NETWORKS.get(method.name, DENSENET)


def is_frozen(method: Method, name: str) -> bool:
    return name.startswith(FROZEN.get(method.name, "/"))


def loss_of(objective: Objective, batch: dict[str, torch.Tensor]) -> float:
    torch.manual_seed(2)  # what is drawn within a step
    return float(objective(batch)["loss"].detach())


@every_method
def test_it_answers_with_logits_and_finite_scalars(method, make, batch):
    for objective in (make(method), make(method).eval()):
        terms = objective(batch)

        assert terms["logits"].shape == (4, 3)
        assert all(value.dim() == 0 for name, value in terms.items() if name != "logits")
        assert all(torch.isfinite(value).all() for value in terms.values())


@every_method
def test_validation_predicts_as_the_network_in_use(method, make, batch):
    objective = make(method).eval()

    torch.testing.assert_close(objective(batch)["logits"], objective.network(batch["image"]), atol=1e-5, rtol=1e-5)


@every_method
def test_a_gradient_reaches_every_weight_that_is_not_frozen(method, make, batch):
    objective = make(method)

    torch.manual_seed(2)
    objective(batch)["loss"].backward()

    for name, parameter in objective.network.named_parameters():
        if is_frozen(method, name):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name


@every_method_but_slow_ones
def test_a_batch_can_be_learnt_by_heart(method, make, batch):
    objective = make(method)
    optimizer = torch.optim.AdamW(objective.parameters(), 1.0 if method.frozen == "encoder" else 3e-3)
    torch.manual_seed(2)
    first = float(nn.functional.cross_entropy(objective(batch)["logits"], batch["label"]).detach())

    for _ in range(40):
        optimizer.zero_grad()
        terms = objective(batch)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()

    last = float(nn.functional.cross_entropy(terms["logits"], batch["label"]).detach())
    assert last < 0.7 * first


@every_method
def test_a_batch_of_one_image_trains_and_validates(method, make, batch):
    one = {key: value[1:2] for key, value in batch.items()}
    objective = make(method)

    terms = objective(one)
    terms["loss"].backward()

    assert torch.isfinite(terms["loss"])
    assert torch.isfinite(objective.eval()(one)["loss"])


@every_method
def test_an_image_without_a_mask_adds_classification_loss_only(method, make, batch):
    """What lies in the place of a missing mask, or an empty mask, does not matter."""
    none, nonsense, empty = ({**batch} for _ in range(3))
    none["has_mask"] = nonsense["has_mask"] = torch.zeros(4, dtype=torch.bool)
    none["mask"], nonsense["mask"] = torch.zeros_like(batch["mask"]), (torch.rand_like(batch["mask"]) > 0.5).float()
    empty["mask"], empty["has_mask"] = torch.zeros_like(batch["mask"]), torch.ones(4, dtype=torch.bool)

    losses = [loss_of(make(method), given) for given in (none, nonsense, empty)]
    terms = make(method)(nonsense)

    assert losses[0] == losses[1] == losses[2]
    assert {name: float(v.detach()) for name, v in terms.items() if name in WITHOUT_MASKS_ZERO and v != 0} == {}


@every_method
def test_a_mask_of_another_shape_is_reported(method, make, batch):
    """As a training step passes a batch on."""
    wrong = {**batch, "mask": batch["mask"][:, :, ::2, ::2]}

    with pytest.raises(InputError, match=r"mask has shape \(4, 1, 16, 16\), image \(4, 1, 32, 32\)"):
        make(method)(to_device(wrong, torch.device("cpu")))


def saved(method: Method, network: nn.Module, path: Path) -> Classifier:
    options = as_plain(method.parse_options(OPTIONS.get(method.name, {})))
    image = ImageConfig(SIZE, equalize=False)
    classifier = Classifier(network.eval(), network_of(method), CLASSES, image, method.name, options=options)
    classifier.save(path)
    return classifier


@every_method
def test_a_checkpoint_gives_the_same_probabilities_and_maps(method, make, batch, tmp_path):
    objective = make(method)
    objective(batch)["loss"].backward()
    nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
    torch.optim.SGD(objective.parameters(), 0.01).step()
    classifier = saved(method, objective.network, tmp_path / "best.pt")

    loaded = Classifier.load(tmp_path / "best.pt")

    assert torch.equal(loaded.probabilities(batch["image"]), classifier.probabilities(batch["image"]))
    assert not loaded.network.training
    explainers = [c.explainer() for c in (classifier, loaded)]
    assert [e.explain is None for e in explainers] == [bool(e.reason) for e in explainers]
    if explainers[0].explain is not None:
        (logits, maps), (_, again) = (e.explain(batch["image"]) for e in explainers)
        assert torch.equal(maps, again)
        assert maps.shape == (4, 3, SIZE, SIZE)
        assert torch.allclose(logits.softmax(1), classifier.probabilities(batch["image"]), atol=1e-5)


@every_method
def test_a_checkpoint_of_other_classes_is_reported(method, make, tmp_path):
    saved(method, make(method).network, tmp_path / "best.pt")
    state = load_state(tmp_path / "best.pt")
    save_state(tmp_path / "best.pt", {**state, "classes": ["normal", "tuberculosis"]})

    with pytest.raises(InputError, match=r"best\.pt: the checkpoint is of another network: .*of another shape"):
        Classifier.load(tmp_path / "best.pt")


def options_with_parts(method: Method, folder: Path) -> Any:
    """Its options; an untrained segmenter or encoder, where it needs one, in a file."""
    torch.manual_seed(3)
    options: dict[str, Any] = {}
    if method.frozen:
        options[method.frozen] = str(folder / f"{method.frozen}.pt")
    if method.frozen == "segmenter":
        Segmenter(build_segmenter(LUNGS), LUNGS, ImageConfig(SIZE)).save(folder / "segmenter.pt")
    if method.frozen == "encoder":
        torch.save(build_network(network_of(method), 2, SIZE).state_dict(), folder / "encoder.pt")
    if "bound_estimation_epochs" in method.options.__dataclass_fields__:
        options["bound_estimation_epochs"] = 1
    return options_by_method({method.name: {**OPTIONS.get(method.name, {}), **options}} if options else {})


@pytest.mark.usefixtures("unevaluated")
@every_method_but_slow_ones
def test_a_killed_training_that_is_resumed_ends_with_the_same_state(
    method: Method, make_config: Callable[..., TrainConfig], kill_at: Callable[..., None], tmp_path: Path
) -> None:
    changes = {
        "method": method.name,
        "options": options_with_parts(method, tmp_path),
        "network": network_of(method),
        "optimizer": OptimizerConfig(average=0.5),
    }
    whole, killed = make_config("whole", **changes), make_config("killed", **changes)
    train(whole)
    kill_at(run_directory.RunDirectory, "save", 1)
    with pytest.raises(Killed):
        train(killed)

    train(replace(killed, resume=True))

    states = [load_state(Path(config.output) / "last.pt") for config in (whole, killed)]
    assert_same(*states)
    assert states[0]["epoch"] == 2
