import pytest

from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.networks.lung_unet import SegmenterConfig
from cxr_isnet.segmentation.training_config import (
    SegmentCrossvalidateConfig,
    SegmentEvaluateConfig,
    SegmentPredictConfig,
    SegmentTrainConfig,
)

TRAIN = {"training": ["a.csv"], "output": "run"}
EVALUATE = {"model": "best.pt", "manifest": ["a.csv"], "output": "out"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training": []}, "training"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"resamples": 0}, "resamples"),
        ({"patience": 0}, "patience"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"seed": -1}, "seed"),
        ({"workers": -1}, "workers"),
        ({"image": ImageConfig(100)}, "image.size is 100.*multiple of 16"),
        ({"image": ImageConfig(64), "network": SegmenterConfig((2,) * 8)}, "multiple of 128"),
        ({"external": ["a.csv"]}, "unseen"),
    ],
    ids=str,
)
def test_a_training_that_cannot_be_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        SegmentTrainConfig(**{**TRAIN, **changes})


@pytest.mark.parametrize(
    ("changes", "told"), [({"folds": 1}, "folds"), ({"train": {"external": ["b.csv"]}}, "external")]
)
def test_a_cross_validation_that_cannot_be_is_refused(changes, told):
    settings = {"train": {}, **changes}
    settings["train"] = SegmentTrainConfig(**{**TRAIN, **settings["train"]})

    with pytest.raises(InputError, match=told):
        SegmentCrossvalidateConfig(**settings)


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        (SegmentEvaluateConfig, {"manifest": []}, "manifest"),
        (SegmentEvaluateConfig, {"resamples": 0}, "resamples"),
        (SegmentPredictConfig, {"manifest": []}, "manifest"),
        (SegmentPredictConfig, {"batch_size": 0}, "batch_size"),
        (SegmentPredictConfig, {"workers": -1}, "workers"),
    ],
)
def test_a_judgement_or_prediction_that_cannot_be_is_refused(kind, changes, told):
    with pytest.raises(InputError, match=told):
        kind(**{**EVALUATE, **changes})
