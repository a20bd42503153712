"""The self-check on networks whose habits are known: one reads the background, one the lungs, one a mark."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from cxr_isnet.data import CXRDataset, ImageConfig, MarkConfig, make_dataset
from cxr_isnet.evaluation import Interval, Settings, check_predictions, hand_till_auc
from cxr_isnet.evaluation.interval import IntervalMethod
from cxr_isnet.inference import Classifier, conditions, predict_manifest
from cxr_isnet.networks import NetworkConfig
from cxr_isnet.training.self_check import SelfCheck, SelfCheckVerdict, in_words, self_check

CLASSES = ("normal", "tuberculosis")
SIZE = 32


class Reads(nn.Module):
    """Second class where the mean over a region of the image is high."""

    def __init__(self, rows: slice, columns: slice, at: float, steepness: float) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)
        self.region = (rows, columns)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-steepness], [steepness]]))
            self.head.bias.copy_(torch.tensor([steepness * at, -steepness * at]))

    def forward(self, images):
        return self.head(images[:, 0, *self.region].mean((1, 2))[:, None])


def areas(frame: pd.DataFrame) -> list[float]:
    """The lungs' share of each image."""
    dataset = make_dataset(frame, CLASSES, ImageConfig(SIZE))
    return [float(dataset[place]["mask"].mean()) for place in range(len(dataset))]


def check(network: nn.Module, frame: pd.DataFrame, mark: MarkConfig | None, share: float = 0.8):
    classifier = Classifier(network, NetworkConfig("densenet_tiny"), CLASSES, ImageConfig(SIZE), "cross_entropy")
    classifier.explainer = lambda *_: type("None_", (), {"explain": None, "reason": "made up"})()
    tables = {
        condition.name: check_predictions(predict_manifest(classifier, frame, condition), CLASSES)
        for condition in conditions(mark)
    }
    relevance = {"relevance_in_lung": share, "relevance_null": areas(frame) if (frame["mask"] != "").all() else np.nan}
    return self_check(classifier, frame, tables | {"clean": tables["clean"].assign(**relevance)}, mark, Settings(100))


def test_a_network_that_reads_the_corner_reads_the_mark_and_the_background(phantoms):
    top_of_the_mark = Reads(slice(1, 2), slice(1, 7), 0.3, -40.0)  # bright for the first class's upright bar only

    found = check(top_of_the_mark, phantoms, MarkConfig(0.2, margin=0.03))

    assert found.verdict is SelfCheckVerdict.SIGN
    assert found.background_auc.estimate > 0.9
    assert found.mark_change > 0.3
    assert found.own_auc.estimate > 0.9
    assert found.foreign_auc.estimate < 0.1
    assert found.foreign_fall.estimate == pytest.approx(found.own_auc.estimate - found.foreign_auc.estimate)
    assert "goes along with the background" in " ".join(found.sentences)
    assert "it reads the mark" in " ".join(found.sentences)
    assert "too few images to say whether the background tells it the classes" in " ".join(found.sentences)  # 12


def lung_pixels(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """Places that are lung in every image, those first whose value tells the classes apart best."""
    items = list(make_dataset(frame, CLASSES, ImageConfig(SIZE)))
    everywhere = torch.stack([item["mask"] for item in items]).amin(0)[0]
    pixels = torch.stack([item["image"] for item in items])[:, 0]
    ill = (frame["label"] == CLASSES[1]).to_numpy()
    places = [(int(row), int(column)) for row, column in np.argwhere(everywhere.numpy() > 0)]
    return sorted(places, key=lambda place: -roc_auc_score(ill, pixels[:, *place]))


def reads(place: tuple[int, int]) -> Reads:
    return Reads(*(slice(at, at + 1) for at in place), 0.5, 8.0)


@pytest.fixture
def many(phantoms, tmp_path):
    """The same images of twice as many patients: enough for an interval that does not reach one half."""
    copies = []
    for number in range(2):
        files = [tmp_path / f"{number}_{Path(image).name}" for image in phantoms["image"]]
        for image, file in zip(phantoms["image"], files, strict=True):
            file.symlink_to(image)
        patients = phantoms["patient_id"] + f" {number}"
        copies.append(phantoms.assign(image=[str(file) for file in files], patient_id=patients))
    return pd.concat(copies, ignore_index=True)


def test_a_network_that_reads_the_lungs_does_as_well_on_foreign_backgrounds(many):
    found = check(reads(lung_pixels(many)[0]), many, None)

    assert found.verdict is SelfCheckVerdict.NO_SIGN
    assert found.foreign_auc.estimate == found.own_auc.estimate > 0.8
    assert found.foreign_fall.estimate == 0
    assert "goes by the lungs" in " ".join(found.sentences)
    assert found.flat()["sign_of_a_shortcut"] == 0


def test_of_classes_that_are_not_told_apart_it_cannot_tell(many):
    at_chance = lung_pixels(many)[-1]  # as good on foreign backgrounds as on own ones, and no better than a coin

    found = check(reads(at_chance), many, None)

    assert found.own_auc.low < 0.5
    assert found.verdict is SelfCheckVerdict.CANNOT_TELL
    assert "cannot tell: the classes are not told apart on validation images" in found.sentences[0]
    assert "by the lungs" not in " ".join(found.sentences)
    assert np.isnan(found.flat()["sign_of_a_shortcut"])
    assert found.to_dict()["verdict"] == "cannot tell"


def interval(estimate: float, low: float, high: float) -> Interval:
    return Interval(estimate, low, high, IntervalMethod.DELONG)


def found_with(background: Interval, foreign: Interval, own: Interval, fall: Interval) -> SelfCheck:
    return in_words(166, background, foreign, own, fall, interval(0.3, 0.2, 0.4), 0.0, trained_with_marks=False)


@pytest.mark.parametrize(
    ("background", "foreign", "own", "fall", "verdict"),
    [  # the first three are networks of a mixed-source study: ISNet, ISNet without swapped backgrounds, plain
        ((0.64, 0.54, 0.73), (0.93, 0.88, 0.96), (0.94, 0.90, 0.97), (0.01, -0.01, 0.03), SelfCheckVerdict.NO_SIGN),
        ((0.88, 0.81, 0.92), (0.74, 0.66, 0.81), (0.99, 0.98, 1.00), (0.25, 0.18, 0.33), SelfCheckVerdict.SIGN),
        ((0.98, 0.96, 0.99), (0.07, 0.04, 0.13), (1.00, 0.99, 1.00), (0.93, 0.87, 0.96), SelfCheckVerdict.SIGN),
        ((0.64, 0.54, 0.73), (0.93, 0.90, 0.95), (0.97, 0.96, 0.98), (0.04, 0.02, 0.06), SelfCheckVerdict.SIGN),
        ((0.64, 0.54, 0.73), (0.88, 0.78, 0.94), (0.93, 0.85, 0.97), (0.05, -0.03, 0.12), SelfCheckVerdict.SIGN),
        ((0.52, 0.42, 0.61), (0.93, 0.90, 0.95), (0.97, 0.96, 0.98), (0.04, 0.02, 0.06), SelfCheckVerdict.NO_SIGN),
    ],
)
def test_the_outline_of_blackened_lungs_is_no_sign_where_foreign_backgrounds_make_no_difference(
    background, foreign, own, fall, verdict
):
    found = found_with(*(interval(*ends) for ends in (background, foreign, own, fall)))

    assert found.verdict is verdict


def test_of_few_images_on_foreign_backgrounds_it_cannot_tell():
    little, own = interval(0.5, 0.4, 0.6), interval(0.9, 0.8, 0.96)

    found = found_with(little, interval(0.7, 0.45, 0.87), own, interval(0.2, -0.05, 0.4))

    assert found.verdict is SelfCheckVerdict.CANNOT_TELL
    assert "too few validation images" in found.sentences[0]
    assert "too few images to say whether it goes by the lungs" in found.sentences[2]


def test_of_a_constant_network_it_cannot_tell(phantoms):
    found = check(Reads(slice(0, 2), slice(0, 2), 0.5, 0.0), phantoms, None)

    assert found.verdict is SelfCheckVerdict.CANNOT_TELL
    assert found.background_auc.estimate == 0.5
    assert found.mark_change == 0
    assert found.relevance_excess.estimate == pytest.approx(0.8 - np.mean(areas(phantoms)))


def test_relevance_no_more_than_by_chance_is_a_sign_of_a_network_that_tells_the_classes_apart(many):
    found = check(reads(lung_pixels(many)[0]), many, None, share=0.1)

    assert found.verdict is SelfCheckVerdict.SIGN
    assert "no more than by chance" in " ".join(found.sentences)


def test_relevance_anywhere_says_nothing_of_a_network_that_tells_nothing(phantoms):
    found = check(Reads(slice(0, 2), slice(0, 2), 0.5, 0.0), phantoms, None, share=0.1)

    assert found.relevance_excess.high < 0
    assert found.verdict is SelfCheckVerdict.CANNOT_TELL
    assert "the classes are not told apart" in found.sentences[0]
    assert "so that this says nothing" in found.sentences[3]


def with_rim(lungs: torch.Tensor) -> torch.Tensor:
    """Lungs (1, H, W) and the pixels beside them, whose distance is 1 in rows and columns at 32 pixels."""
    wider = torch.zeros_like(lungs)
    for _, row, column in lungs.nonzero().tolist():
        wider[0, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    return wider


def test_the_background_is_the_image_without_its_lungs_and_their_rim(phantoms):
    whole = Reads(slice(0, SIZE), slice(0, SIZE), 0.3, 1.0)
    dataset = make_dataset(phantoms, CLASSES, ImageConfig(SIZE))

    found = check(whole, phantoms, None)

    items = [dataset[place] for place in range(len(dataset))]
    with torch.no_grad():
        slow = [whole((item["image"] * ~with_rim(item["mask"] > 0.5))[None]).softmax(1)[0].numpy() for item in items]
    assert found.background_auc.estimate == pytest.approx(hand_till_auc(dataset.labels.numpy(), np.stack(slow)))


def test_without_masks_or_with_one_class_there_is_no_check(phantoms):
    constant = Reads(slice(0, 2), slice(0, 2), 0.5, 0.0)

    assert check(constant, phantoms.assign(mask=""), None) is None
    assert check(constant, phantoms[phantoms["label"] == "normal"].reset_index(drop=True), None) is None


def test_a_training_ends_with_its_self_check(trained):
    metrics = json.loads((trained / "metrics.json").read_text())

    assert metrics["self_check"]["sentences"][0].startswith("Self-check on")
    assert 0 <= metrics["self_check"]["mark_change"] <= 1


def test_images_are_read_once_for_all_their_forms(phantoms, monkeypatch):
    read: list[int] = []
    item = CXRDataset.__getitem__
    monkeypatch.setattr(CXRDataset, "__getitem__", lambda self, index: read.append(index) or item(self, index))
    classifier = Classifier(
        Reads(slice(0, 2), slice(0, 2), 0.5, 0.0),
        NetworkConfig("densenet_tiny"),
        CLASSES,
        ImageConfig(SIZE),
        "cross_entropy",
    )
    mark = MarkConfig(0.2)
    tables = {c.name: check_predictions(predict_manifest(classifier, phantoms, c), CLASSES) for c in conditions(mark)}
    for given in (None, mark):
        read.clear()
        self_check(classifier, phantoms, tables, given, Settings(10))
        assert len(read) <= 3 * len(phantoms)  # for its forms, as a background, for the mean image
