import cv2
import numpy as np
import pytest

from cxr_isnet.checks.local_features import FEATURE_SIDE, MAX_FEATURES, LocalFeatures, local_features


@pytest.fixture(scope="module")
def picture(chests) -> np.ndarray:
    return np.clip(cv2.resize(chests[0].astype(np.float32), (FEATURE_SIDE, FEATURE_SIDE)), 0, 1)


def likeness(one: LocalFeatures, other: LocalFeatures) -> np.ndarray:
    """Of every feature of one, the likeness to that of the other at the same place."""
    distance = np.linalg.norm(one.points[:, None] - other.points[None], axis=2)
    near = distance < 0.5 / FEATURE_SIDE
    found = np.where(near, one.vectors() @ other.vectors().T, -1).max(axis=1)
    return found[near.any(axis=1)]


def test_features_lie_inside_and_are_comparable(picture):
    found = local_features(picture)

    assert 50 < len(found) <= MAX_FEATURES
    assert found.points.min() > 0
    assert found.points.max() < 1
    np.testing.assert_allclose(np.linalg.norm(found.vectors(), axis=1), 1, atol=0.02)


def test_mirrored_features_are_those_of_the_mirrored_image(picture):
    expected = local_features(np.ascontiguousarray(picture[:, ::-1]))

    found = likeness(local_features(picture).mirrored(), expected)

    assert len(found) > 0.3 * MAX_FEATURES
    assert np.median(found) > 0.99
    assert np.median(likeness(LocalFeatures(expected.points, local_features(picture).descriptors), expected)) < 0.9


def test_mirroring_twice_changes_nothing(picture):
    found = local_features(picture)

    again = found.mirrored().mirrored()

    assert (again.descriptors == found.descriptors).all()
    np.testing.assert_allclose(again.points, found.points, atol=1e-6)


def test_a_flat_image_has_none():
    assert len(local_features(np.full((FEATURE_SIDE, FEATURE_SIDE), 0.4))) == 0
