"""Epochs of an objective that is cheap, or goes wrong on purpose."""

import copy
from collections.abc import Callable
from itertools import pairwise

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxr_isnet.data import ImageConfig, make_dataset, make_loader, set_epoch
from cxr_isnet.engine.checkpoint import load_state
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.settings import Algorithm, OptimizerConfig, TrainerSettings
from cxr_isnet.engine.trainer import Epoch, Trainer
from cxr_isnet.errors import DivergedError
from cxr_isnet.evaluation.ranking import hand_till_auc
from cxr_isnet.manifests import read_manifest
from cxr_isnet.objectives.cross_entropy import CrossEntropy
from cxr_isnet.objectives.objective import Objective
from cxr_isnet.training import train
from tests.objective_maker import make_objective

CLASSES = ["normal", "tuberculosis"]


class MeanGrey(Objective):
    """Logistic regression of an image's mean grey value; `spoil` may change the loss of a batch."""

    def __init__(self, spoil: Callable | None = None) -> None:
        super().__init__(nn.Linear(1, 2))
        self.spoil = spoil
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        logits = self.network(batch["image"].mean((2, 3)))
        loss = F.cross_entropy(logits, batch["label"])
        return {"logits": logits, "loss": loss if self.spoil is None else self.spoil(self, loss)}


def auc(labels: torch.Tensor, probabilities: torch.Tensor) -> dict[str, float]:
    return {"auc": hand_till_auc(labels.numpy(), probabilities.double().numpy())}


@pytest.fixture(scope="module")
def frame(phantom_manifest) -> pd.DataFrame:
    return read_manifest(phantom_manifest)


@pytest.fixture
def fit(make_config, frame) -> Callable[..., Trainer]:
    """A maker of fittings: 12 images in three batches of four."""
    dataset = make_dataset(frame, CLASSES, ImageConfig(32))

    def make(objective: Objective, epochs: int = 2, **changes) -> Trainer:
        loaders = [make_loader(dataset, batch_size=4, shuffle=shuffle, seed=0) for shuffle in (True, False)]
        config = make_config(**changes)
        settings = TrainerSettings(config.optimizer, epochs, config.seed, config.precision)
        return Trainer(objective, *loaders, settings, DistributedContext(0, 1, torch.device("cpu")), auc)

    return make


def run(trainer: Trainer, **options) -> list[Epoch]:
    epochs: list[Epoch] = []
    trainer.run(lambda epoch: bool(epochs.append(epoch)), **options)
    return epochs


def test_epochs_are_counted_from_one_and_have_terms_of_training_and_validation(fit):
    epochs = run(fit(MeanGrey(), 3))

    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert set(epochs[0].training) == {"loss"}
    assert set(epochs[0].validation) == {"loss", "auc"}


def test_the_caller_may_end_it(fit):
    numbers = []

    fit(MeanGrey(), 5).run(lambda epoch: bool(numbers.append(epoch.number)) or epoch.number == 2)

    assert numbers == [1, 2]


def test_the_loss_of_validation_is_the_mean_over_images(fit, frame):
    objective = MeanGrey()
    trainer = fit(objective, 1)

    (epoch,) = run(trainer)

    dataset = make_dataset(frame, CLASSES, ImageConfig(32))
    images = torch.stack([dataset[i]["image"] for i in range(len(dataset))])
    expected = objective({"image": images, "label": dataset.labels})["loss"]
    assert epoch.validation["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_learning_rate_rises_over_the_warm_up_and_falls_as_a_half_cosine(fit):
    trainer = fit(MeanGrey(), 40, optimizer=OptimizerConfig(learning_rate=0.5, warmup=0.1))
    rates = []
    for _ in range(120):
        rates.append(trainer.scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.scheduler.step()

    assert rates[:12] == pytest.approx([0.5 * (step + 1) / 12 for step in range(12)])
    assert max(rates) == 0.5
    assert all(later < earlier for earlier, later in pairwise(rates[12:]))
    assert rates[12 + 54] == pytest.approx(0.25)
    assert rates[-1] < 0.001


@pytest.mark.parametrize("algorithm", Algorithm)
def test_weights_move_by_the_clipped_gradient(algorithm, fit):
    objective = MeanGrey(lambda self, loss: loss * 1e6)
    before = objective.network.weight.detach().clone()
    optimizer = OptimizerConfig(algorithm, learning_rate=1e-3, weight_decay=0.0, momentum=0.0, clip=0.5, warmup=0.0)

    run(fit(objective, 1, optimizer=optimizer))

    moved = float((objective.network.weight.detach() - before).norm())
    longest = 3 * 1e-3 * (0.5 if algorithm is Algorithm.SGD else 2**0.5)  # three steps; AdamW's are 1 per weight
    assert 0 < moved <= longest * 1.01


def test_the_running_average_lags_behind_and_is_what_is_validated(fit):
    objective = MeanGrey()
    trainer = fit(objective, 3, optimizer=OptimizerConfig(average=0.9, learning_rate=0.1))

    run(trainer)

    assert trainer.validated is not objective
    assert isinstance(trainer.validated, MeanGrey)
    assert not torch.equal(trainer.validated.network.weight, objective.network.weight)


def test_without_an_average_the_objective_itself_is_validated(fit):
    objective = MeanGrey()

    assert fit(objective).validated is objective


def test_a_copy_of_an_objective_explains_the_copy(make_config):
    """The running average is a copy; its relevance must be of its own weights."""
    objective = make_objective("isnet", make_config().network, 2, bounds=[0.1, 1.0], deep_supervision=False).eval()
    batch = {
        "image": torch.rand(2, 1, 32, 32),
        "mask": torch.ones(2, 1, 32, 32),
        "has_mask": torch.ones(2, dtype=torch.bool),
        "label": torch.tensor([0, 1]),
    }
    twin = copy.deepcopy(objective)
    with torch.no_grad():
        for weight in twin.network.parameters():
            weight.zero_()

    assert twin(batch)["foreground"].item() == 1.0  # no relevance at all
    assert objective(batch)["foreground"].item() != 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_ends_the_training_with_the_files_of_its_batch(value, fit):
    objective = MeanGrey(lambda self, loss: loss * value if self.calls == 2 else loss)
    trainer = fit(objective)

    with pytest.raises(DivergedError, match=r"term 'loss' is -?(nan|inf) in epoch 1\. Lower") as caught:
        run(trainer)

    named = [line.strip() for line in str(caught.value).splitlines()[1:]]
    set_epoch(trainer._training, 1)
    assert named == [batch["path"] for batch in trainer._training][1]


def test_a_gradient_that_is_no_number_ends_it_before_the_weights_move(fit):
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("nan")

    objective = MeanGrey(lambda self, loss: Steep.apply(loss))
    before = objective.network.weight.detach().clone()

    with pytest.raises(DivergedError, match="gradient norm is nan in epoch 1"):
        run(fit(objective))

    assert torch.equal(objective.network.weight, before)


def test_a_validation_loss_that_is_no_number_is_reported_too(fit):
    objective = MeanGrey(lambda self, loss: loss if self.training else loss * float("nan"))

    with pytest.raises(DivergedError, match="term 'loss' is nan in validation"):
        run(fit(objective))


def test_what_was_saved_before_a_divergence_stays_whole(make_config, monkeypatch, tmp_path):
    """The last whole epoch is kept, and no partial file beside it."""
    config, forward = make_config(epochs=3), CrossEntropy.forward
    steps = []

    def diverging(self, batch):
        terms = forward(self, batch)
        steps.extend([1] * self.training)
        return terms | {"loss": terms["loss"] * (float("nan") if len(steps) > 2 else 1)}

    monkeypatch.setattr(CrossEntropy, "forward", diverging)
    with pytest.raises(DivergedError):
        train(config)

    folder = RunDirectory(tmp_path / "run")
    assert load_state(folder.state_file)["epoch"] == 1
    files = {"config.yaml", "manifests.json", "history.csv", "best.pt", "last.pt"}
    assert files == {path.name for path in folder.path.iterdir()}
