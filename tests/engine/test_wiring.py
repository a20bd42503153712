"""What a trainer does with each of its settings, on a loss so simple that every weight can be computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxr_isnet.data import make_loader
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.settings import Algorithm, OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.engine.trainer import Epoch, Trainer
from cxr_isnet.objectives.objective import Objective
from tests.pictures import Pictures

CPU = torch.device("cpu")
ALONE = DistributedContext(0, 1, CPU)
STEPS = 3
"""Steps of an epoch: six images in batches of two."""

SGD = OptimizerConfig(Algorithm.SGD, 0.5, weight_decay=0.0, momentum=0.0, clip=100.0, warmup=0.0)


class Slope(Objective):
    """One weight w, and the loss `slope` * w: the gradient is `slope` whatever is seen. Notes each call."""

    def __init__(self, slope: float = 2.0) -> None:
        super().__init__(nn.Linear(1, 1, bias=False))
        nn.init.ones_(self.network.weight)
        self.slope = slope
        self.calls: list[dict[str, Any]] = []

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        call = {
            "training": self.training,
            "weight": float(self.network.weight.detach()),
            "images": batch["image"][:, 0, 0, 0].tolist(),
            "sites": batch["site"].tolist(),
            "bf16": torch.is_autocast_enabled("cpu"),
            "gradients": torch.is_grad_enabled(),
            "random": float(torch.rand(())),
        }
        self.calls.append(call)
        return {"loss": self.slope * self.network.weight.sum()}

    def seen(self, name: str, *, training: bool = True) -> list[Any]:
        """One thing of each training call, or of each validation call."""
        return [call[name] for call in self.calls if call["training"] is training]


class NeedingGradients(Slope):
    needs_gradients = True


def fit(
    objective: Objective,
    epochs: int = 1,
    optimizer: OptimizerConfig = SGD,
    *,
    context: DistributedContext = ALONE,
    images: int = 6,
    metrics: Callable[[Tensor, Tensor], Mapping[str, float]] | None = None,
    completed: int = 0,
    **settings: Any,
) -> tuple[Trainer, list[Epoch]]:
    """A trainer that has run, and its epochs."""
    data = Pictures(images)
    loaders = [make_loader(data, batch_size=2, shuffle=shuffle, seed=0) for shuffle in (True, False)]
    trainer = Trainer(
        objective, *loaders, TrainerSettings(optimizer, epochs, **{"seed": 0} | settings), context, metrics
    )
    found: list[Epoch] = []
    trainer.run(lambda epoch: bool(found.append(epoch)), completed=completed)
    return trainer, found


def weights(objective: Slope) -> list[float]:
    """The weight before each training step, and after the last one."""
    return [*objective.seen("weight"), float(objective.network.weight.detach())]


def moves(objective: Slope) -> list[float]:
    """By how much each training step lowered the weight."""
    found = weights(objective)
    return [before - after for before, after in pairwise(found)]


def rates(steps: int, highest: float, warmup: float) -> Iterator[float]:
    """The learning rate of each step: a line over the share `warmup` of all steps, then a half cosine."""
    rising = max(1, round(steps * warmup))
    for step in range(steps):
        if step < rising:
            yield highest * (step + 1) / rising
        else:
            yield highest * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.5])
def test_every_step_moves_the_weight_by_its_own_learning_rate_times_the_gradient(warmup: float) -> None:
    objective = Slope()

    fit(objective, 4, replace(SGD, warmup=warmup))

    assert moves(objective) == pytest.approx([2.0 * rate for rate in rates(4 * STEPS, 0.5, warmup)], abs=1e-6)


@pytest.mark.parametrize("clip", [0.5, 1.5])
def test_a_gradient_that_is_too_long_is_cut_to_the_configured_norm(clip: float) -> None:
    objective = Slope()

    fit(objective, 1, replace(SGD, clip=clip))

    assert moves(objective) == pytest.approx([clip * rate for rate in rates(STEPS, 0.5, 0)], abs=1e-6)


def test_sgd_has_the_configured_momentum_and_weight_decay() -> None:
    objective = Slope()

    fit(objective, 2, replace(SGD, momentum=0.5, weight_decay=0.1))

    weight, velocity, expected = 1.0, 0.0, [1.0]
    for rate in rates(2 * STEPS, 0.5, 0):
        velocity = 0.5 * velocity + 2.0 + 0.1 * weight
        weight -= rate * velocity
        expected.append(weight)
    assert weights(objective) == pytest.approx(expected, rel=1e-5)


def test_adamw_has_the_configured_weight_decay() -> None:
    objective = Slope()

    fit(objective, 2, replace(SGD, algorithm=Algorithm.ADAMW, weight_decay=0.1))

    weight, expected = 1.0, [1.0]
    for rate in rates(2 * STEPS, 0.5, 0):
        weight -= rate * (0.1 * weight + 1)  # a gradient that never changes is divided by itself
        expected.append(weight)
    assert weights(objective) == pytest.approx(expected, rel=1e-5)


def test_the_running_average_forgets_with_the_configured_decay_and_is_what_is_validated() -> None:
    objective = Slope()

    trainer, epochs = fit(objective, 2, replace(SGD, average=0.9))

    after = weights(objective)[1:]
    average = after[0]
    expected = []
    for step, weight in enumerate(after):
        average = 0.9 * average + 0.1 * weight
        if step % STEPS == STEPS - 1:
            expected.append(2.0 * average)
    assert [epoch.validation["loss"] for epoch in epochs] == pytest.approx(expected, rel=1e-5)
    assert float(trainer.validated.network.weight) == pytest.approx(average, rel=1e-5)
    assert float(objective.network.weight) == pytest.approx(after[-1])


def test_the_training_loss_of_an_epoch_is_the_mean_over_its_own_steps() -> None:
    objective = Slope()

    _, epochs = fit(objective, 2)

    before = weights(objective)[:-1]
    means = [2.0 * sum(before[start : start + STEPS]) / STEPS for start in (0, STEPS)]
    assert [epoch.training["loss"] for epoch in epochs] == pytest.approx(means)


@pytest.mark.parametrize("precision", Precision)
def test_training_and_validation_run_in_the_configured_precision(precision: Precision) -> None:
    objective = Slope()

    fit(objective, precision=precision)

    for training in (True, False):
        assert set(objective.seen("bf16", training=training)) == {precision is Precision.BF16}


def test_every_epoch_gives_free_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr("cxr_isnet.engine.trainer.return_free_memory", lambda: calls.append(None))

    fit(Slope(), 3)

    assert len(calls) == 3


def test_every_epoch_trains_in_training_mode_with_gradients_and_validates_in_evaluation_mode_without() -> None:
    objective = Slope()

    fit(objective, 2)

    assert [call["training"] for call in objective.calls] == [*[True] * STEPS, *[False] * STEPS] * 2
    assert all(objective.seen("gradients"))
    assert not any(objective.seen("gradients", training=False))


def test_an_objective_that_needs_gradients_has_them_in_validation() -> None:
    objective = NeedingGradients()

    fit(objective)

    assert all(objective.seen("gradients", training=False))


def test_every_epoch_has_its_own_order_of_images_and_an_epoch_that_is_gone_on_with_the_same() -> None:
    whole, later = Slope(), Slope()
    fit(whole, 3)

    fit(later, 3, completed=1)

    orders = [whole.seen("images")[start : start + STEPS] for start in (0, STEPS, 2 * STEPS)]
    assert orders[0] != orders[1] != orders[2]
    assert later.seen("images") == [*orders[1], *orders[2]]
    assert whole.seen("sites") == [[image % 3 for image in images] for images in whole.seen("images")]
    assert later.seen("images", training=False) == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] * 2


def test_random_numbers_differ_by_epoch_seed_and_process_and_are_the_same_when_gone_on() -> None:
    def drawn(epochs: int = 1, **options: Any) -> list[float]:
        objective = Slope()
        torch.manual_seed(99)
        fit(objective, epochs, **options)
        return objective.seen("random")

    first, second = (drawn(2)[start : start + STEPS] for start in (0, STEPS))

    others = [second, drawn(seed=1), drawn(context=DistributedContext(1, 1, CPU))]
    assert all(other != first for other in others)
    assert drawn() == first
    assert drawn(2, completed=1) == second


def test_validation_loss_and_metrics_are_of_every_image_whatever_the_batches() -> None:
    """Five images in batches of two: the mean over batches would count the last image twice."""

    class Grey(Slope):
        def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
            grey = batch["image"].mean((1, 2, 3))
            zero = 0 * self.network.weight.sum()
            return {"loss": grey.mean() + zero, "logits": torch.stack([grey, 3 * grey], 1).bfloat16()}

    given: list[tuple[Tensor, Tensor]] = []

    def metrics(labels: Tensor, probabilities: Tensor) -> dict[str, float]:
        given.append((labels, probabilities))
        return {"auc": 0.25}

    _, (epoch,) = fit(Grey(), images=5, metrics=metrics)

    grey = torch.arange(5.0)
    assert epoch.validation == {"loss": pytest.approx(2.0), "auc": 0.25}
    ((labels, probabilities),) = given
    assert labels.tolist() == [0, 1, 0, 1, 0]
    torch.testing.assert_close(probabilities, torch.softmax(torch.stack([grey, 3 * grey], 1), 1))


class Wrapped(nn.Module):
    """Stands for DistributedDataParallel: counts what is called in training."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, batch: Mapping[str, Any]) -> Any:
        self.calls += 1
        return self.module(batch)


@dataclass(frozen=True)
class Listening(DistributedContext):
    """Notes what it is asked to wrap and to synchronise, and pretends that another process has ten times the loss."""

    wrapped: list[Wrapped] = field(default_factory=list)
    synchronised: list[tuple[nn.Module, int]] = field(default_factory=list)

    def wrap(self, module: nn.Module) -> nn.Module:
        self.wrapped.append(Wrapped(module))
        return self.wrapped[-1]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        return {key: 5.5 * value for key, value in values.items()}

    def synchronise_buffers(self, module: nn.Module) -> None:
        validated = sum(not call["training"] for call in module.calls)
        self.synchronised.append((module, validated))


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_processes_train_the_wrapped_network_and_have_the_same_buffers_before_they_validate(average: float) -> None:
    objective, context = Slope(), Listening(0, 1, CPU)

    trainer, epochs = fit(objective, 2, replace(SGD, average=average), context=context)

    assert [(wrapped.module, wrapped.calls) for wrapped in context.wrapped] == [(objective, 2 * STEPS)]
    assert context.synchronised == [(trainer.validated, 0), (trainer.validated, STEPS)]
    assert epochs[0].training["loss"] == pytest.approx(5.5 * 2.0 * sum(weights(objective)[:STEPS]) / STEPS)


def test_the_objective_is_moved_to_the_device_before_the_optimiser_takes_its_weights() -> None:
    objective = Slope()
    loader = make_loader(Pictures(), batch_size=2, shuffle=False, seed=0)
    context = DistributedContext(0, 1, torch.device("meta"))

    trainer = Trainer(objective, loader, loader, TrainerSettings(replace(SGD, average=0.9), 1, 0), context)

    (group,) = trainer.optimizer.param_groups
    moved = [objective.network.weight, trainer.validated.network.weight, *group["params"]]
    assert {str(weight.device) for weight in moved} == {"meta"}
