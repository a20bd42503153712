from dataclasses import replace

import numpy as np
import pytest

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_mask
from cxr_isnet.manifests import read_manifest
from cxr_isnet.segmentation.quality import MaskQuality, QualityLimits, measure_mask

from .conftest import two_lungs

GOOD = MaskQuality(area=0.3, lungs=2, symmetry=0.9, border=0.0, fragments=0.0, agreement=0.97)


def test_it_measures_what_a_drawing_has():
    mask = np.zeros((10, 20), np.uint8)
    mask[0:4, 2:7] = 1
    mask[5:9, 12:14] = 1

    quality = measure_mask(mask, fragments=0.1, agreement=0.8)

    assert quality == MaskQuality(
        area=28 / 200, lungs=2, symmetry=8 / 20, border=5 / (2 * 10 + 2 * 18), fragments=0.1, agreement=0.8
    )


def test_lungs_that_have_grown_together_are_one_and_specks_are_none():
    joined = two_lungs(100, 100)
    joined[50, :] = joined.any(axis=0)[0] or 1
    speck = two_lungs(100, 100)
    speck[:, 50:] = 0
    speck[5, 90] = 1

    assert measure_mask(joined, fragments=0, agreement=1).lungs == 1
    assert measure_mask(speck, fragments=0, agreement=1).lungs == 1
    assert measure_mask(speck, fragments=0, agreement=1).symmetry == 0


def test_masks_of_phantoms_are_accepted(phantom_manifest):
    for path in read_manifest(phantom_manifest)["mask"]:
        assert measure_mask(read_mask(path), fragments=0.0, agreement=0.97).quality_flags(QualityLimits()) == []


@pytest.mark.parametrize(
    "flaw",
    [
        {"area": 0.05},
        {"area": 0.7},
        {"lungs": 1},
        {"lungs": 0},
        {"symmetry": 0.3},
        {"border": 0.2},
        {"fragments": 0.3},
        {"agreement": 0.5},
    ],
    ids=str,
)
def test_each_flaw_is_one_quality_flag_that_names_it_and_what_was_measured(flaw):
    ((name, value),) = flaw.items()

    quality_flags = replace(GOOD, **flaw).quality_flags(QualityLimits())

    assert len(quality_flags) == 1
    assert quality_flags[0].startswith(name)
    assert f"{value:.2f}" in quality_flags[0] or str(value) in quality_flags[0]


def test_a_good_mask_has_no_quality_flags():
    assert GOOD.quality_flags(QualityLimits()) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"agreement": 1.5}, "agreement"), ({"border": -0.1}, "border"), ({"smallest_area": 0.7}, "smallest_area")],
)
def test_limits_that_cannot_be_are_refused(settings, named):
    with pytest.raises(InputError, match=named):
        QualityLimits(**settings)
