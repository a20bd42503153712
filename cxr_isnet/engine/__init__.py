"""Training that knows no X-ray: trainer, run directory, checkpoint, processes, optimiser and precision settings."""

from importlib import import_module
from typing import TYPE_CHECKING

from cxr_isnet.engine.checkpoint import damaged, load_network, load_state, load_weights, save_state
from cxr_isnet.engine.devices import Device, denormals_as_zero
from cxr_isnet.engine.distributed import DistributedContext, distributed_context
from cxr_isnet.engine.progress import LoggedProgress, duration
from cxr_isnet.engine.ray_cluster import ray_cluster
from cxr_isnet.engine.settings import OptimizerConfig, Precision, TrainerSettings

if TYPE_CHECKING:
    from cxr_isnet.engine.checkpointed_run import CheckpointedRun
    from cxr_isnet.engine.run_directory import RunDirectory
    from cxr_isnet.engine.steps import to_device
    from cxr_isnet.engine.trainer import Trainer

_TRAINING = {
    "CheckpointedRun": "checkpointed_run",
    "RunDirectory": "run_directory",
    "Trainer": "trainer",
    "to_device": "steps",
}

__all__ = [
    "CheckpointedRun",
    "Device",
    "DistributedContext",
    "LoggedProgress",
    "OptimizerConfig",
    "Precision",
    "RunDirectory",
    "Trainer",
    "TrainerSettings",
    "damaged",
    "denormals_as_zero",
    "distributed_context",
    "duration",
    "load_network",
    "load_state",
    "load_weights",
    "ray_cluster",
    "save_state",
    "to_device",
]


def __getattr__(name: str) -> object:
    """What training needs, on demand: it brings ignite and pandera, which a model in use does without."""
    if name in _TRAINING:
        return getattr(import_module(f"cxr_isnet.engine.{_TRAINING[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
