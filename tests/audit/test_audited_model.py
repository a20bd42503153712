"""The functions of a classifier and of a third-party model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cxr_isnet.audit import audited_classifier
from cxr_isnet.audit.audited_model import load_audited_model, randomised_network
from cxr_isnet.data import ImageConfig, prepare_image
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image
from cxr_isnet.inference import Classifier
from cxr_isnet.manifests import read_manifest


@pytest.fixture
def classifier(trained: Path) -> Classifier:
    return Classifier.load(trained / "best.pt")


@pytest.fixture
def images(phantom_manifest: Path) -> torch.Tensor:
    paths = read_manifest(phantom_manifest)["image"][:3]
    return torch.stack([prepare_image(read_image(path), ImageConfig(32, equalize=False)) for path in paths])


def test_a_classifier_predicts_as_it_does_for_files(
    classifier: Classifier, images: torch.Tensor, phantom_manifest: Path
) -> None:
    model = audited_classifier(classifier, "")
    table = classifier.predict(list(read_manifest(phantom_manifest)["image"][:3]))

    np.testing.assert_allclose(
        model.probabilities(images), table[[f"probability_{c}" for c in classifier.classes]], atol=1e-5
    )
    assert model.heatmaps(images).shape == (3, 2, 32, 32)


def test_features_are_what_the_last_layer_reads(classifier: Classifier, images: torch.Tensor) -> None:
    model = audited_classifier(classifier, "")
    last = [m for m in classifier.network.modules() if isinstance(m, torch.nn.Linear)][-1]

    logits = last(torch.from_numpy(model.features(images)).float())

    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), model.probabilities(images), atol=1e-5)


def test_weights_are_re_initialised_from_the_output_back_and_the_classifier_stays(classifier: Classifier) -> None:
    before = {name: weights.clone() for name, weights in classifier.network.state_dict().items()}

    head, whole = (randomised_network(classifier, share, 0).state_dict() for share in (0.01, 1.0))

    changed = [name for name in before if not torch.equal(before[name], head[name])]
    assert {name.rsplit(".", 1)[0] for name in changed} == {"class_layers.out"}
    kernels = [name for name, weights in before.items() if weights.dim() == 4]
    assert all(not torch.equal(before[name], whole[name]) for name in kernels)
    assert all(torch.equal(before[name], now) for name, now in classifier.network.state_dict().items())


@pytest.mark.parametrize("model", ["missing.pt", "models:/nobody/1"])
def test_a_model_that_is_not_there_is_named(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=model):
        load_audited_model(model, size=32, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
