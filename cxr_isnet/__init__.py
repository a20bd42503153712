"""Chest X-ray classifiers that look at the lungs: ISNet training and honest external evaluation.

Research software, not a medical device.

What a notebook needs is here; it is imported when it is first used:

    >>> import cxr_isnet
    >>> sorted(cxr_isnet.__all__)[:3]
    ['Classifier', 'DataConfig', 'ImageConfig']
"""

from typing import TYPE_CHECKING

from cxr_isnet.on_demand import names_on_demand

if TYPE_CHECKING:
    from cxr_isnet.data import ImageConfig, load_image
    from cxr_isnet.evaluation import evaluate_table, write_report
    from cxr_isnet.inference import Classifier, predict_manifest
    from cxr_isnet.manifests import read_manifest, read_manifests
    from cxr_isnet.networks import NetworkConfig
    from cxr_isnet.relevance import LRP
    from cxr_isnet.tracking import TrackingConfig
    from cxr_isnet.training import DataConfig, TrainConfig, read_experiment_config, train

__version__ = "0.2.0"

__all__ = [
    "LRP",
    "Classifier",
    "DataConfig",
    "ImageConfig",
    "NetworkConfig",
    "TrackingConfig",
    "TrainConfig",
    "evaluate_table",
    "load_image",
    "predict_manifest",
    "read_experiment_config",
    "read_manifest",
    "read_manifests",
    "train",
    "write_report",
]

__getattr__ = names_on_demand(
    __name__,
    {
        "data": ("ImageConfig", "load_image"),
        "evaluation": ("evaluate_table", "write_report"),
        "inference": ("Classifier", "predict_manifest"),
        "manifests": ("read_manifest", "read_manifests"),
        "networks": ("NetworkConfig",),
        "relevance": ("LRP",),
        "tracking": ("TrackingConfig",),
        "training": ("DataConfig", "TrainConfig", "read_experiment_config", "train"),
    },
)
"""What `__all__` lists: torch and MONAI take seconds to import."""


def __dir__() -> list[str]:
    """Public names, for completion in a notebook."""
    return sorted([*__all__, "__version__"])
