"""What a training does differently on a GPU, as far as it can be seen without one; and compiled steps."""

from dataclasses import replace

import pytest
import torch

from cxr_isnet.data import ImageConfig, loading_processes, make_dataset, make_loader
from cxr_isnet.engine import trainer as trainers
from cxr_isnet.engine.distributed import DistributedContext
from cxr_isnet.engine.settings import Algorithm, OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.engine.trainer import Trainer
from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig
from tests.objective_maker import make_objective

CPU, GPU = torch.device("cpu"), torch.device("cuda")
CLASSES = ["normal", "tuberculosis"]
SETTINGS = TrainerSettings(OptimizerConfig(), 1, 0)


@pytest.fixture
def fit(phantoms):
    """A training of a tiny ISNet on 12 images in three batches."""
    dataset = make_dataset(phantoms, CLASSES, ImageConfig(32))

    def make(settings, count=1):
        torch.manual_seed(0)
        objective = make_objective(
            "isnet", NetworkConfig("densenet_tiny"), 2, bounds=[0.1, 1.0], deep_supervision=False
        )
        loaders = [make_loader(dataset, batch_size=4, shuffle=s, seed=0, drop_last=s) for s in (True, False)]
        return Trainer(objective, *loaders, settings, DistributedContext(0, count, CPU))

    return make


def last_epoch(trainer):
    epochs = []
    trainer.run(lambda epoch: bool(epochs.append(epoch)))
    return epochs[-1]


def test_adamw_is_fused_on_a_gpu_and_as_before_on_a_cpu():
    network = torch.nn.Linear(2, 2)

    made = {device: trainers._optimizer(network, OptimizerConfig(), device).defaults["fused"] for device in (CPU, GPU)}

    assert made == {CPU: None, GPU: True}
    assert trainers._optimizer(network, OptimizerConfig(Algorithm.SGD), GPU).defaults.get("fused") is None


@pytest.mark.parametrize(
    ("precision", "device", "inside"),
    [(Precision.TF32, GPU, "high"), (Precision.TF32, CPU, "highest"), (Precision.FP32, GPU, "highest")],
)
def test_matrix_products_are_in_tf32_on_a_gpu_if_asked_for_and_only_in_the_training(precision, device, inside):
    with trainers._matrix_products(precision, device):
        assert torch.get_float32_matmul_precision() == inside

    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_on_a_cpu_is_float32(fit):
    plain, tf32 = (last_epoch(fit(replace(SETTINGS, precision=p))) for p in (Precision.FP32, Precision.TF32))

    assert plain == tf32


def test_loading_processes_are_those_asked_for_or_as_many_as_the_device_is_fed_by(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert [loading_processes(None, CPU), loading_processes(None, GPU)] == [0, 6]
    assert [loading_processes(asked, GPU) for asked in (0, 3)] == [0, 3]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loading_processes(None, GPU) == 1
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert loading_processes(None, GPU) == 8


def test_memory_is_pinned_if_asked_for(phantoms):
    dataset = make_dataset(phantoms, CLASSES, ImageConfig(32))

    loaders = [
        make_loader(dataset, batch_size=4, shuffle=False, seed=0, **chosen) for chosen in ({}, {"pin_memory": True})
    ]

    assert [loader.pin_memory for loader in loaders] == [False, True]


def test_the_whole_objective_is_compiled_in_one_graph_of_one_shape(fit, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda module, **how: asked.append((module, how)) or module)
    trainer = fit(replace(SETTINGS, compile=True))

    compiled = last_epoch(trainer)

    assert asked == [(trainer.objective, {"fullgraph": True, "dynamic": False, "mode": "default"})]
    assert compiled == last_epoch(fit(SETTINGS))
    assert len(asked) == 1


def test_a_gpu_gets_cuda_graphs(fit, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda module, **how: asked.append(how["mode"]) or module)
    trainer = fit(replace(SETTINGS, compile=True))

    monkeypatch.setattr(trainer, "_context", DistributedContext(0, 1, GPU))
    trainer._in_training()

    assert asked == ["reduce-overhead"]


def test_several_processes_do_not_compile(fit):
    with pytest.raises(InputError, match="compile is true, and there are 2 processes"):
        fit(replace(SETTINGS, compile=True), count=2)


@pytest.mark.slow
def test_a_compiled_training_learns_what_an_eager_one_does(fit):
    """Three steps of Adam, whose first are as large for a tiny gradient as for a large one: rounding shows."""
    eager, compiled = (last_epoch(fit(replace(SETTINGS, compile=c))) for c in (False, True))

    assert compiled.training == pytest.approx(eager.training, rel=1e-3)
    assert compiled.validation == pytest.approx(eager.validation, rel=1e-2)
