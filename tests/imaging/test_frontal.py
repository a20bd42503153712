import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.imaging import FRONTAL_ABOVE, Flag, downsample, frontal_features, frontal_score
from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from tests.imaging.chest_files import chest_bytes, chest_pixels

Y, X = np.mgrid[:64, :64] / 64
LIMB = np.where(np.abs(X - 0.3 - 0.4 * Y) < 0.12, 0.8, 0.02)
"""A bright bar, aslant on black."""


def test_a_chest_looks_like_one_whatever_its_exposure():
    chest = chest_pixels(64) / 4095

    assert frontal_score(chest) > FRONTAL_ABOVE
    assert frontal_score(0.2 + 0.3 * chest) == pytest.approx(frontal_score(chest))
    assert frontal_score(chest**3) == pytest.approx(frontal_score(chest))
    assert frontal_score(chest[:, ::-1]) == pytest.approx(frontal_score(chest))


def test_black_borders_are_no_part_of_the_field_of_view():
    chest = chest_pixels(48) / 4095 + 0.1

    framed = np.pad(chest, 8)

    assert frontal_score(framed) == pytest.approx(frontal_score(np.kron(chest, np.ones((4, 4)))), abs=0.3)


def test_features_are_mean_ranks_of_cells_and_their_mirror_cells():
    """By counting, pixel by pixel: the share of pixels that are darker, equals half."""
    picture = np.random.default_rng(0).integers(1, 20, (16, 16)).astype(float)
    ranks = np.array([[((picture < v).sum() + 0.5 * (picture == v).sum()) / 256 for v in row] for row in picture])
    cells = [
        (ranks[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() + ranks[2 * r : 2 * r + 2, 14 - 2 * c : 16 - 2 * c].mean())
        for r in range(8)
        for c in range(4)
    ]

    np.testing.assert_allclose(frontal_features(picture), (cells - np.mean(cells)) / np.std(cells))


@pytest.mark.parametrize(
    "image",
    [LIMB, np.full((64, 64), 0.4), np.rot90(chest_pixels(64)), np.rot90(chest_pixels(64), 3)],
    ids=["limb", "flat", "turned left", "turned right"],
)
def test_what_is_no_upright_chest_does_not(image):
    assert frontal_score(image) < FRONTAL_ABOVE


def flags_of(pixels, **elements):
    stored = np.rint(4095 * pixels).astype(np.uint16)
    content = io.BytesIO(chest_bytes(pixels=stored, **elements))
    return read_radiograph(content, AcceptanceConfig(other_views=True), INTAKE_RULES).provenance.flags


def test_intake_flags_what_does_not_look_like_its_view():
    limb = np.kron(LIMB, np.ones((4, 4)))

    assert Flag.NOT_FRONTAL in flags_of(limb)
    assert Flag.NOT_FRONTAL in flags_of(limb, ViewPosition=None)
    assert Flag.NOT_FRONTAL not in flags_of(limb, ViewPosition="LL")
    assert flags_of(chest_pixels(64) / 4095) == ()


@pytest.mark.realdata
def test_rates_on_real_radiographs_of_hospitals_it_was_not_fitted_to(real_data_folder, capsys):
    """False alarms on frontal X-rays, and what is found of those turned. No laterals are there: not measured."""
    table = pd.read_csv(real_data_folder / "manifest.csv", low_memory=False)
    source = table["path"].str.split("/").str[0]
    table = table[~source.isin(["nih_pneumonia", "nih_no_findings", "rsna_normal"])]
    table = table.groupby(source, group_keys=False).sample(50, random_state=0)
    images = [small(real_data_folder / path) for path in table["path"]]
    child = table["path"].str.startswith("guangzhou").to_numpy()
    flagged = np.array(
        [[frontal_score(np.rot90(image, times)) < FRONTAL_ABOVE for times in range(4)] for image in images]
    )
    with capsys.disabled():
        for name, rows in (("adults", flagged[~child]), ("children", flagged[child])):
            shares = ", ".join(f"{share:.3f}" for share in rows.mean(axis=0))
            print(f"\n{name}: flagged upright, turned by 90, 180, 270 degrees: {shares}")

    assert flagged[~child, 0].mean() < 0.01
    assert flagged[child, 0].mean() < 0.05
    assert flagged[~child, 1:].mean(axis=0).min() > 0.98
    assert flagged[child, 1:].mean(axis=0).min() > 0.8


def small(path):
    with Image.open(path) as picture:
        return downsample(np.asarray(picture.convert("L"), dtype=np.float32))
