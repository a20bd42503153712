import numpy as np
import pytest

from cxr_isnet.checks import Severity
from cxr_isnet.checks.rules.masks import find
from cxr_isnet.segmentation.quality import QualityLimits, measure_mask
from tests.checks.conftest import SIDE, save


def band(*columns: slice, rows: slice = slice(30, 110)) -> np.ndarray:
    """A mask of upright bars."""
    mask = np.zeros((SIDE, SIDE))
    for part in columns:
        mask[rows, part] = 1
    return mask


SOUND = (slice(30, 70), slice(90, 130))


@pytest.fixture
def masked(hospital, lungs, tmp_path):
    """Two patients with the masks of their lungs."""
    for number, lung in enumerate(lungs):
        save(tmp_path / f"{number}_mask.png", lung)
    return hospital.iloc[:2].assign(mask=["0_mask.png", "1_mask.png"])


def test_the_masks_of_phantoms_are_sound(masked, scan_of):
    assert list(find(scan_of(masked))) == []


@pytest.mark.parametrize(
    ("mask", "severity", "message"),
    [
        (np.zeros((SIDE, SIDE)), Severity.ERROR, "no pixel is lung"),
        (band(*SOUND)[:-10], Severity.ERROR, f"{SIDE - 10} x {SIDE} pixels, its image {SIDE} x {SIDE}"),
        (band(*SOUND, rows=slice(0, 110)), Severity.WARNING, "border (top)"),
        (band(slice(30, 50), slice(90, 110), rows=slice(30, 60)), Severity.WARNING, "lungs fill 4.7%"),
        (band(slice(1, 78), slice(82, 159), rows=slice(1, 159)), Severity.WARNING, "lungs fill 95"),
        (band(slice(30, 70)), Severity.WARNING, "1 separate parts"),
        (band(slice(30, 60), slice(70, 100), slice(110, 140)), Severity.WARNING, "3 separate parts"),
        (band(slice(30, 80), slice(100, 110)), Severity.WARNING, "one lung has 20%"),
    ],
)
def test_a_faulty_mask_is_found(masked, scan_of, tmp_path, mask, severity, message):
    save(tmp_path / "0_mask.png", mask)

    (finding,) = find(scan_of(masked))

    assert (finding.severity, finding.places[0].row) == (severity, 1)
    assert message in finding.message
    assert finding.pictures[0].mask == str(tmp_path / "0_mask.png")


@pytest.mark.parametrize(
    ("mask", "flag"),
    [
        (band(slice(30, 80), slice(100, 119)), "symmetry"),  # the smaller lung has 0.38 of the larger
        (band(slice(30, 80), slice(100, 121)), ""),  # 0.42
        (band(slice(30, 70), slice(90, 113), rows=slice(0, 110)), ""),  # 63 of the 636 pixels of the border
        (band(slice(30, 70), slice(90, 114), rows=slice(0, 110)), "border"),  # 64
        (band(slice(30, 45), slice(90, 105), rows=slice(30, 98)), "area"),  # 0.0797
        (band(slice(30, 45), slice(90, 105), rows=slice(30, 99)), ""),  # 0.0809
    ],
)
def test_a_given_mask_is_suspect_where_a_predicted_one_is_flagged(masked, scan_of, tmp_path, mask, flag):
    save(tmp_path / "0_mask.png", mask)

    found = list(find(scan_of(masked)))

    quality = measure_mask(mask.astype(np.uint8), fragments=0.0, agreement=1.0)
    assert [text.split()[0] for text in quality.quality_flags(QualityLimits())] == ([flag] if flag else [])
    assert len(found) == bool(flag)


def test_an_unreadable_mask_is_found(masked, scan_of, tmp_path):
    (tmp_path / "1_mask.png").write_bytes(b"not a picture")

    (finding,) = find(scan_of(masked))

    assert finding.severity is Severity.ERROR
    assert "1_mask.png" in finding.message


def test_images_without_masks_are_a_note(hospital, scan_of):
    (finding,) = find(scan_of(hospital))

    assert finding.severity is Severity.INFO
    assert "6 of 6 images have no mask" in finding.message
