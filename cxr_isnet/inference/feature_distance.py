"""How far an image is from the training images, in the features that the classes are told apart by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]

LIMIT_QUANTILE = 0.99


@dataclass(frozen=True)
class FeatureReference:
    """The features of the training images, as one Gaussian.

    Attributes:
        mean: (F,) float32.
        precision: (F, F) float32, inverse of the shrunk covariance.
        limit: distance that 99% of in-domain validation images do not exceed; of fewer than 100, none does.
    """

    mean: Tensor
    precision: Tensor
    limit: float

    def distances(self, features: Tensor) -> FloatArray:
        """Mahalanobis distances (B,) of features (B, F), in units of `limit`: above 1 is far from the training images.

        Source: Lee et al., A simple unified framework for detecting out-of-distribution samples and adversarial
        attacks, NeurIPS 2018 (arXiv 1807.03888), with one Gaussian for all classes.
        """
        return _mahalanobis(features, self.mean, self.precision) / self.limit


def fit_reference(training: Tensor, validation: Tensor) -> FeatureReference | None:
    """The reference of a trained network.

    The covariance is shrunk towards a multiple of the identity as far as Ledoit and Wolf's formula says (Journal of
    Multivariate Analysis 88, 2004), so that fewer images than features suffice.

    Args:
        training: (N, F) features of training images.
        validation: (M, F) of in-domain images that were not trained on, which set the limit.

    Returns:
        None where the features of all images are alike, or no validation image is there to set the limit.
    """
    from sklearn.covariance import ledoit_wolf  # not at the top: a model in use does without scikit-learn

    known = training.double().numpy()
    covariance = ledoit_wolf(known)[0] if len(known) > 1 else np.zeros((known.shape[1],) * 2)
    spread = float(np.trace(covariance)) / len(covariance)
    if spread <= 0 or not len(validation):
        return None
    precision = np.linalg.inv(covariance + 1e-6 * spread * np.eye(len(covariance)))
    mean = torch.from_numpy(known.mean(0)).float()
    as_stored = torch.from_numpy(precision).float()
    distances = _mahalanobis(validation, mean, as_stored)
    limit = float(np.quantile(distances, LIMIT_QUANTILE, method="higher"))
    return FeatureReference(mean, as_stored, limit) if limit > 0 else None


def _mahalanobis(features: Tensor, mean: Tensor, precision: Tensor) -> FloatArray:
    offset = features.double().cpu() - mean.double()
    squared = torch.einsum("bi,ij,bj->b", offset, precision.double(), offset).clamp(min=0)
    return np.asarray(squared.sqrt().numpy(), dtype=np.float64)
