"""Training that knows no X-ray: trainer, run directory, checkpoint, processes, optimiser and precision settings."""

from typing import TYPE_CHECKING

from cxr_isnet.engine.checkpoint import check_whole, damaged, load_network, load_state, load_weights, save_state
from cxr_isnet.engine.devices import Device, denormals_as_zero
from cxr_isnet.engine.distributed import DistributedContext, distributed_context
from cxr_isnet.engine.progress import LoggedProgress, duration
from cxr_isnet.engine.ray_cluster import ray_cluster
from cxr_isnet.engine.settings import OptimizerConfig, Precision, TrainerSettings
from cxr_isnet.on_demand import names_on_demand

if TYPE_CHECKING:
    from cxr_isnet.engine.checkpointed_run import CheckpointedRun
    from cxr_isnet.engine.run_directory import RunDirectory
    from cxr_isnet.engine.steps import to_device
    from cxr_isnet.engine.trainer import Trainer

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
    "check_whole",
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

__getattr__ = names_on_demand(
    __name__,
    {
        "checkpointed_run": ("CheckpointedRun",),
        "run_directory": ("RunDirectory",),
        "steps": ("to_device",),
        "trainer": ("Trainer",),
    },
)
"""What training needs: it brings ignite and pandera, which a model in use does without."""
