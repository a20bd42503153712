import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.imaging import read_image
from cxr_isnet.imaging.polarity import NEGATIVE_BELOW, polarity_score
from cxr_isnet.phantoms.hospitals import PhantomHospital
from cxr_isnet.phantoms.writer import draw_patient
from tests.imaging.chest_files import chest_pixels


@pytest.mark.parametrize("size", [40, 64, 300, 1000])
def test_a_chest_scores_above_and_its_negative_as_much_below(size):
    chest = chest_pixels(size) / 4095

    assert polarity_score(chest) > -NEGATIVE_BELOW
    assert polarity_score(1 - chest) == pytest.approx(-polarity_score(chest), abs=1e-9)


def test_exposure_does_not_matter():
    chest = chest_pixels(128) / 4095

    assert polarity_score(0.2 + 0.3 * chest) == pytest.approx(polarity_score(chest), abs=1e-9)


def test_a_picture_of_one_grey_says_nothing():
    assert polarity_score(np.full((100, 80), 0.4)) == 0


def test_phantoms_differ_from_their_negatives():
    for number in range(6):
        _, pixels, _ = draw_patient(PhantomHospital("Alder"), number, ill=number % 2 == 0, seed=0, size=96)

        assert polarity_score(pixels / 4095) > -NEGATIVE_BELOW


@pytest.mark.realdata
def test_rates_on_real_radiographs(real_data_folder):
    """False alarms on X-rays as they are and misses on their negatives, over all real X-rays."""
    table = pd.read_csv(real_data_folder / "manifest.csv")
    scores = np.array([polarity_score(grey(real_data_folder / path)) for path in table["path"]])
    source = table["path"].str.split("/").str[0]
    for name in sorted(source.unique()):
        some = scores[source == name]
        print(f"{name}: n {len(some)}, flagged {np.sum(some < NEGATIVE_BELOW)}, negatives flagged "
              f"{np.sum(-some < NEGATIVE_BELOW)}")  # fmt: skip

    assert np.mean(scores < NEGATIVE_BELOW) < 0.005
    assert np.mean(-scores < NEGATIVE_BELOW) > 0.98


@pytest.mark.realdata
def test_the_wrong_tag_is_flagged_and_the_right_ones_are_not(real_data_folder):
    scores = {
        name: polarity_score(read_image(real_data_folder / f"dicom/{name}.dcm"))
        for name in ("RG1_J2KI", "nih_cr_chest", "nih_cr_chest_wrong_monochrome1")
    }

    assert scores.pop("nih_cr_chest_wrong_monochrome1") < NEGATIVE_BELOW
    assert min(scores.values()) > -NEGATIVE_BELOW


def grey(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32) / 255
