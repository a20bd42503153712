"""Chest X-ray classifiers that look at the lungs: ISNet training and honest external evaluation.

Research software, not a medical device.

What a notebook needs is here; it is imported when it is first used:

    >>> import cxr_isnet
    >>> sorted(cxr_isnet.__all__)[:3]
    ['Classifier', 'DataConfig', 'ImageConfig']
"""

from importlib import import_module
from typing import TYPE_CHECKING

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

_PACKAGES = {
    "Classifier": "inference",
    "DataConfig": "training",
    "ImageConfig": "data",
    "LRP": "relevance",
    "NetworkConfig": "networks",
    "TrackingConfig": "tracking",
    "TrainConfig": "training",
    "evaluate_table": "evaluation",
    "load_image": "data",
    "predict_manifest": "inference",
    "read_experiment_config": "training",
    "read_manifest": "manifests",
    "read_manifests": "manifests",
    "train": "training",
    "write_report": "evaluation",
}

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


def __getattr__(name: str) -> object:
    """What `__all__` lists, on demand: torch and MONAI take seconds to import."""
    if name in _PACKAGES:
        return getattr(import_module(f"cxr_isnet.{_PACKAGES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for completion in a notebook."""
    return sorted([*__all__, "__version__"])
