"""Every published set from the publisher's bytes to a trained network."""

import pytest

from cxr_isnet.commands.manifest import CheckConfig, check
from cxr_isnet.data import ImageConfig
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.tracking import TrackingConfig
from cxr_isnet.training import DataConfig, TrainConfig, train

from . import conftest  # noqa: F401 it fills MINIATURES
from .miniature import MINIATURES


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MINIATURES))
def test_a_set_is_built_checked_and_trained_on(name, built, phantom_table, tmp_path):
    text, status = check(CheckConfig([str(built(name).table)], workers=1))

    assert status < 2, text
    classes = sorted({*built(name).frame["label"], "normal"})
    other = tmp_path / "other.csv"  # another hospital: a miniature has too few patients of a class to validate on
    phantom_table.assign(label=[classes[row % len(classes)] for row in range(12)]).to_csv(other, index=False)
    data = DataConfig(training=[str(built(name).table), str(other)], classes=classes, image=ImageConfig(size=32))
    train(
        TrainConfig(
            output=str(tmp_path / "run"),
            data=data,
            method="cross_entropy",
            network=NetworkConfig("densenet_tiny"),
            epochs=1,
            batch_size=4,
            resamples=10,
            tracking=TrackingConfig(enabled=False),
        )
    )
    assert (tmp_path / "run" / "best.pt").is_file()
