import numpy as np

from cxr_isnet.checks.frontal import LEAST_CHEST, LEAST_COMPANY, MOST_ODD, frontal_outlier_score, resemblance
from tests.checks.test_crops import thumbnail


def limb() -> np.ndarray:
    """A bright bar, aslant on black."""
    y, x = np.mgrid[:128, :128] / 128
    return np.where(np.abs(x - 0.3 - 0.4 * y) < 0.12, 0.8, 0.02)


def test_frontal_chests_resemble_the_drawn_one(chests):
    assert resemblance(np.stack([thumbnail(chest) for chest in chests])).min() > LEAST_CHEST


def test_one_bright_field_does_not_resemble_it():
    y, x = np.mgrid[:128, :128] / 128
    abdomen = np.where(((x - 0.5) / 0.3) ** 2 + ((y - 0.5) / 0.35) ** 2 < 1, 0.8, 0.1)

    assert resemblance(abdomen[None])[0] < LEAST_CHEST


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


def test_what_is_no_chest_is_odd_among_chests(chests):
    pictures = crowd(chests, 60)
    strangers = np.stack([limb(), np.rot90(pictures[0]), 1 - pictures[1]])

    odd = frontal_outlier_score(np.concatenate([pictures, strangers]), ["Alder"] * 63)

    assert odd[:60].max() < MOST_ODD < odd[60:].min()


def test_several_strangers_do_not_excuse_each_other(chests):
    odd = frontal_outlier_score(
        np.concatenate([crowd(chests, 60), np.stack([limb() + 0.01 * n for n in range(3)])]), ["Alder"] * 63
    )

    assert odd[60:].min() > MOST_ODD


def test_few_pictures_cannot_be_odd(chests):
    assert (
        frontal_outlier_score(
            np.concatenate([crowd(chests, LEAST_COMPANY - 2), limb()[None]]), ["Alder"] * (LEAST_COMPANY - 1)
        )
        == 0
    ).all()


def test_a_site_with_looks_of_its_own_is_judged_by_itself(chests):
    usual, narrow = crowd(chests, 120), crowd(chests, 40)
    narrow[:, 64:] = 0  # a black lower half, as a wide image in a square frame has

    alone = frontal_outlier_score(np.concatenate([usual, narrow]), ["Alder"] * 120 + ["Birch"] * 40)
    thrown_together = frontal_outlier_score(np.concatenate([usual, narrow]), ["Alder"] * 160)

    assert alone.max() < MOST_ODD
    assert (alone <= thrown_together).all()
