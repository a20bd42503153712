"""Distances from the training images, against the formula in float64."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from cxr_isnet.inference import fit_reference


@pytest.mark.parametrize("count", [8, 500], ids=["fewer images than features", "more"])
def test_distances_are_mahalanobis_with_a_shrunk_covariance(count: int) -> None:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(20, 20))
    training, validation = (random.normal(size=(n, 20)) @ mixing for n in (count, 300))

    reference = fit_reference(torch.from_numpy(training), torch.from_numpy(validation))

    assert reference is not None
    fitted = LedoitWolf().fit(training)
    expected = np.sqrt(fitted.mahalanobis(validation))
    limit = np.sort(expected)[int(np.ceil(0.99 * 299))]
    assert reference.limit == pytest.approx(limit, rel=1e-3)
    np.testing.assert_allclose(reference.distances(torch.from_numpy(validation)), expected / limit, rtol=2e-3)
    assert (reference.distances(torch.from_numpy(validation)) > 1).mean() <= 0.01
    assert (reference.distances(torch.from_numpy(validation + 100 * mixing[0])) > 1).all()


def test_of_few_validation_images_none_is_far() -> None:
    random = torch.Generator().manual_seed(0)
    training, validation = torch.randn(50, 6, generator=random), torch.randn(5, 6, generator=random)

    reference = fit_reference(training, validation)

    assert reference is not None
    assert reference.distances(validation).max() == pytest.approx(1.0)


def test_features_that_are_all_alike_give_no_reference() -> None:
    assert fit_reference(torch.ones(9, 4), torch.ones(3, 4)) is None
    assert fit_reference(torch.rand(1, 4), torch.rand(3, 4)) is None
    assert fit_reference(torch.rand(9, 4), torch.empty(0, 4)) is None
