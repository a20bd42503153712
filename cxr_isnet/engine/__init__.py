"""Training that knows no X-ray: trainer, run directory, checkpoint, processes, optimiser and precision settings."""

from cxr_isnet.engine.checkpoint import load_network, load_state, load_tensors, load_weights, save_state
from cxr_isnet.engine.checkpointed_run import CheckpointedRun
from cxr_isnet.engine.devices import Device, denormals_as_zero
from cxr_isnet.engine.distributed import DistributedContext, distributed_context
from cxr_isnet.engine.run_directory import RunDirectory
from cxr_isnet.engine.settings import OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.engine.steps import to_device
from cxr_isnet.engine.trainer import Trainer

__all__ = [
    "CheckpointedRun",
    "Device",
    "DistributedContext",
    "OptimizerConfig",
    "Precision",
    "RunDirectory",
    "Trainer",
    "TrainerSettings",
    "denormals_as_zero",
    "distributed_context",
    "load_network",
    "load_state",
    "load_tensors",
    "load_weights",
    "save_state",
    "to_device",
]
