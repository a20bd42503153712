import numpy as np

from cxr_isnet.checks.frontal import MAX_OUTLIER_SCORE, MIN_IMAGES, frontal_outlier_score
from tests.checks.conftest import thumbnail


def limb() -> np.ndarray:
    """A bright bar, aslant on black."""
    y, x = np.mgrid[:128, :128] / 128
    return np.where(np.abs(x - 0.3 - 0.4 * y) < 0.12, 0.8, 0.02)


def crowd(chests: list[np.ndarray], size: int) -> np.ndarray:
    """Many chests made of few: shifted, and mixed with each other."""
    generator = np.random.default_rng(0)
    pictures = [thumbnail(chest) for chest in chests]
    mixed = []
    for _ in range(size):
        one, other = generator.integers(0, len(pictures), 2)
        shift = tuple(generator.integers(-4, 5, 2))
        mixed.append(np.roll(0.6 * pictures[one] + 0.4 * pictures[other], shift, axis=(0, 1)))
    return np.stack(mixed)


def test_what_is_no_chest_is_an_outlier_among_chests(chests):
    pictures = crowd(chests, 60)
    outliers = np.stack([limb(), np.rot90(pictures[0]), 1 - pictures[1]])

    scores = frontal_outlier_score(np.concatenate([pictures, outliers]), ["Alder"] * 63)

    assert scores[:60].max() < MAX_OUTLIER_SCORE < scores[60:].min()


def test_several_outliers_do_not_support_each_other(chests):
    scores = frontal_outlier_score(
        np.concatenate([crowd(chests, 60), np.stack([limb() + 0.01 * n for n in range(3)])]), ["Alder"] * 63
    )

    assert scores[60:].min() > MAX_OUTLIER_SCORE


def test_few_images_have_no_outliers(chests):
    assert (
        frontal_outlier_score(
            np.concatenate([crowd(chests, MIN_IMAGES - 2), limb()[None]]), ["Alder"] * (MIN_IMAGES - 1)
        )
        == 0
    ).all()


def test_a_site_with_an_appearance_of_its_own_is_compared_with_itself(chests):
    usual, narrow = crowd(chests, 120), crowd(chests, 40)
    narrow[:, 64:] = 0  # a black lower half, as a wide image in a square frame has

    alone = frontal_outlier_score(np.concatenate([usual, narrow]), ["Alder"] * 120 + ["Birch"] * 40)
    thrown_together = frontal_outlier_score(np.concatenate([usual, narrow]), ["Alder"] * 160)

    assert alone.max() < MAX_OUTLIER_SCORE
    assert (alone <= thrown_together).all()
