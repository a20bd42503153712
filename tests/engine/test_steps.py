"""A step asks its device for no number: what it computes is fetched many steps at a time."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils._python_dispatch import TorchDispatchMode

from cxr_isnet.engine.devices import denormals_as_zero
from cxr_isnet.engine.steps import PendingTerms, TrainingStep
from cxr_isnet.errors import DivergedError
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.objectives import TrainingSet
from cxr_isnet.objectives.methods import find_method

METHODS = ("cross_entropy", "isnet", "isnet_selective", "isnet_stochastic", "isnet_dual")
OTHERS = ("isnet_grad_input", "rrr", "balanced", "group_dro", "gain", "multitask_unet", "ham")
SIZE = 48


def batch():
    mask = torch.zeros(4, 1, SIZE, SIZE)
    mask[..., 12:36, 8:40] = 1
    return {
        "image": torch.rand(4, 1, SIZE, SIZE),
        "mask": mask,
        "has_mask": torch.tensor([True, True, False, True]),
        "label": torch.tensor([0, 1, 0, 1]),
        "site": torch.tensor([0, 0, 1, 1]),
        "path": ["a.png", "b.png", "c.png", "d.png"],
    }


def prepared(name):
    """A method's objective behind its first step, which may look at what it is given."""
    torch.manual_seed(0)
    method = find_method(name)
    network = NetworkConfig({"densenet121": "densenet_tiny"}.get(method.network, method.network))
    objective = method.objective(network, 2, SIZE, method.options()).train()
    objective.see_training_set(TrainingSet(batch()["label"], batch()["site"], 2, 2))
    if objective.bound_estimation_epochs:
        objective.measure(batch())
        objective.finish_estimation()
    objective(batch())["loss"].backward()
    return objective


def engine_of(objective, device):
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-3)
    state = SimpleNamespace(device=torch.device(device), epoch=1)
    return SimpleNamespace(network=objective, optimizer=optimizer, state=state)


class HostWaits(TorchDispatchMode):
    """What a device has to end all its work for: numbers asked for, and copies to it that are waited for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, tensors = func.name(), [value for value in args if isinstance(value, torch.Tensor)]
        on_device = any(value.device.type == "meta" for value in tensors)
        if name == "aten::_to_copy" and not on_device and not (kwargs or {}).get("non_blocking"):
            on_device = (kwargs or {}).get("device") == torch.device("meta") and tensors[0].numel() > 1
            name = "a copy that is waited for"
        elif name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"):
            on_device = False
        if on_device:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_a_step_waits_for_no_number_of_its_device(name, monkeypatch):
    """A device without data: whoever asks it for a number gets an error."""
    objective = prepared(name).to("meta")
    engine = engine_of(objective, "meta")
    step = TrainingStep(LambdaLR(engine.optimizer, lambda _: 1.0), 1.0, False, fetch_every=10)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the device

    with HostWaits() as waits:
        for _ in range(2):
            step(engine, batch())

    assert waits.found == []


def test_the_test_above_can_fail(monkeypatch):
    objective = prepared("cross_entropy").to("meta")
    engine = engine_of(objective, "meta")
    step = TrainingStep(LambdaLR(engine.optimizer, lambda _: 1.0), 1.0, False, fetch_every=1)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())

    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        step(engine, batch())
    with HostWaits() as waits:
        torch.zeros(3).to("meta")
        torch.zeros(3).to("meta", non_blocking=True)
    assert waits.found == ["a copy that is waited for"]


def taken(fetch_every, spoiled=()):
    """The terms of six steps, of which some are spoiled, and the step."""
    with denormals_as_zero():
        objective = prepared("isnet_selective")
        forward, calls = objective.forward, []

        def spoil(given):
            calls.append(1)
            terms = forward(given)
            return terms | {"loss": terms["loss"] * (float("nan") if len(calls) in spoiled else 1)}

        objective.forward = spoil
        engine = engine_of(objective, "cpu")
        step = TrainingStep(LambdaLR(engine.optimizer, lambda _: 1.0), 1.0, False, fetch_every)
        for number in range(6):
            step(engine, batch() | {"path": [f"{number}.png"]})
        return step.terms(1)


def test_terms_that_are_fetched_together_are_those_that_are_fetched_one_by_one():
    one_by_one, together = taken(1), taken(4)

    assert len(one_by_one) == 6
    assert one_by_one == together
    assert set(one_by_one[0]) == {"loss", "classification", "heatmap", "background", "foreground", "masked"}


@pytest.mark.parametrize("fetch_every", [1, 4, 100])
def test_the_first_batch_that_is_no_number_is_named_however_late_it_is_found(fetch_every):
    with pytest.raises(DivergedError, match=r"^term 'loss' is nan in epoch 1\.(.|\n)*files:\n  2\.png$"):
        taken(fetch_every, spoiled=(3, 5))


def test_numbers_of_any_kind_come_back_exactly():
    pending = PendingTerms()
    values = {"a": torch.tensor(1 / 3), "b": torch.tensor(2**24 + 1), "c": torch.tensor(0.1, dtype=torch.float64)}

    pending.add(values, ["x.png"])

    assert len(pending) == 1
    assert pending.fetch("epoch 1") == [{name: value.item() for name, value in values.items()}]
    assert pending.fetch("epoch 1") == []
