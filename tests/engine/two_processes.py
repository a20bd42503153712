"""One of the processes of a distributed training without batch statistics; started by `test_distributed`.

Usage: python two_processes.py MANIFEST OUTPUT METHOD
"""

import sys

from torch import nn

from cxr_isnet.data import AugmentConfig, ImageConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.engine.settings import Algorithm, OptimizerConfig
from cxr_isnet.networks import Backbone, NetworkConfig
from cxr_isnet.objectives.methods import options_by_method
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import TrainConfig, experiment, train
from cxr_isnet.training.config import DataConfig


def _convolutions(classes: int, image_size: int, dropout: float) -> nn.Module:
    layers = [nn.Conv2d(1, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


CONVOLUTIONS = Backbone("convolutions", _convolutions, ("3",), has_relevance_rules=True)


def config(manifest: str, output: str, method: str) -> TrainConfig:
    return TrainConfig(
        DataConfig([manifest], ["normal", "tuberculosis"], image=ImageConfig(32), augment=AugmentConfig(noise=0.02)),
        output,
        method=method,
        # without swapped backgrounds, which come from the images of one process
        options=options_by_method({"isnet": {"bound_estimation_epochs": 1, "background_swap": 0.0}}),
        network=NetworkConfig("tests.engine.two_processes.CONVOLUTIONS"),
        optimizer=OptimizerConfig(Algorithm.SGD, learning_rate=0.01, momentum=0.9, average=0.5),
        epochs=2,
        batch_size=4,
        device=Device.CPU,
        tracking=TrackingConfig(enabled=False),
    )


def run(manifest: str, output: str, method: str) -> None:
    """Trains, in as many processes as the environment says; leaves out the judging."""
    finish, experiment.finish = experiment.finish, lambda *_: ({}, [])
    try:
        train(config(manifest, output, method))
    finally:
        experiment.finish = finish


if __name__ == "__main__":
    run(*sys.argv[1:])
