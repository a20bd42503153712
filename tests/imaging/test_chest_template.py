import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from cxr_isnet.imaging import Flag
from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig
from cxr_isnet.imaging.chest_template import FRONTAL_ABOVE, _gaussian_blur, frontal_score
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.polarity import downsample
from tests.imaging.chest_files import chest_bytes, chest_pixels

Y, X = np.mgrid[:64, :64] / 64
LIMB = np.where(np.abs(X - 0.3 - 0.4 * Y) < 0.12, 0.8, 0.02)
"""A bright bar, aslant on black."""


def test_a_chest_looks_like_one_whatever_its_exposure():
    chest = chest_pixels(64) / 4095

    assert frontal_score(chest) > FRONTAL_ABOVE
    assert frontal_score(0.2 + 0.3 * chest) == pytest.approx(frontal_score(chest), abs=1e-4)


@pytest.mark.parametrize(
    "image", [LIMB, np.full((64, 64), 0.4), chest_pixels(64).T / 4095], ids=["limb", "flat", "side"]
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
def test_rates_on_real_radiographs(real_data_folder):
    """False alarms on frontal X-rays, and what is found of those turned. No laterals are there: not measured."""
    table = pd.read_csv(real_data_folder / "manifest.csv", low_memory=False)
    source = table["path"].str.split("/").str[0]
    table = table.groupby(source, group_keys=False).sample(50, random_state=0)
    images = [small(real_data_folder / path) for path in table["path"]]
    child = table["path"].str.startswith("guangzhou").to_numpy()
    upright = np.array([frontal_score(image) < FRONTAL_ABOVE for image in images])
    turned = np.mean([frontal_score(np.rot90(image)) < FRONTAL_ABOVE for image in images])
    print(f"adults flagged {upright[~child].mean():.3f}, children {upright[child].mean():.3f}, turned {turned:.3f}")

    assert upright[~child].mean() < 0.03
    assert turned > 0.5


def small(path):
    with Image.open(path) as picture:
        return downsample(np.asarray(picture.convert("L"), dtype=np.float32))


def test_the_blur_of_the_template_is_scipys():
    picture = np.random.default_rng(0).random((64, 64))
    blur = _gaussian_blur(64, 4.8)

    np.testing.assert_allclose(blur @ picture @ blur.T, ndimage.gaussian_filter(picture, 4.8), atol=1e-12)
