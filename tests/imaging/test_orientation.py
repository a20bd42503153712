r"""Turning to the standard orientation: the patient's right on the left of the image, the head on top.

PS3.3, C.7.6.1.1.1: PatientOrientation says what rows and columns run to; frontal images are read L\F.
"""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr_isnet.imaging import Flag, Turn, image_turn, read_image, read_mask
from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.orientation import EXIF_ORIENTATION
from tests.imaging.chest_files import chest_bytes, chest_dataset, chest_pixels

CHEST = chest_pixels(64)[:48, :40]
r"""As read L\F: 48 rows, 40 columns, no symmetry."""

STORED = {
    ("L", "F"): CHEST,
    ("R", "F"): CHEST[:, ::-1],
    ("L", "H"): CHEST[::-1],
    ("R", "H"): CHEST[::-1, ::-1],
    ("F", "L"): CHEST.T,
    ("F", "R"): CHEST[:, ::-1].T,
    ("H", "L"): CHEST[::-1].T,
    ("H", "R"): CHEST[::-1, ::-1].T,
}
"""How a detector stores it, by what its rows and its columns run to."""


def read(content):
    return read_radiograph(io.BytesIO(content), AcceptanceConfig(other_views=True), INTAKE_RULES)


@pytest.mark.parametrize("directions", STORED, ids="".join)
@pytest.mark.parametrize("suffix", ["", "A"])
def test_a_frontal_image_is_turned_to_the_standard_and_told(directions, suffix):
    content = chest_bytes(pixels=STORED[directions], PatientOrientation=[text + suffix for text in directions])

    radiograph = read(content)

    np.testing.assert_allclose(radiograph.image(), CHEST / 4095, atol=1e-6)
    turned = directions != ("L", "F")
    assert (Flag.TURNED in radiograph.provenance.flags) == turned
    assert radiograph.provenance.applied[0].startswith("turned: PatientOrientation") == turned
    assert (radiograph.provenance.rows, radiograph.provenance.columns) == (48, 40)


@pytest.mark.parametrize("directions", [None, "L", ["L", "P"], ["A", "L"], ["?", "F"], ["", ""]], ids=str)
def test_an_orientation_that_is_not_told_or_not_upright_changes_nothing(directions):
    radiograph = read(chest_bytes(pixels=CHEST, PatientOrientation=directions))

    np.testing.assert_allclose(radiograph.image(), CHEST / 4095, atol=1e-6)
    assert Flag.TURNED not in radiograph.provenance.flags


@pytest.mark.parametrize(
    ("directions", "quarter_turns"),
    [(("A", "F"), 0), (("P", "F"), 0), (("A", "H"), 2), (("F", "A"), 3), (("H", "P"), 1), (("H", "A"), 1)],
)
def test_a_lateral_image_is_turned_feet_down_and_never_mirrored(directions, quarter_turns):
    stored = np.ascontiguousarray(CHEST)

    image = read(chest_bytes(pixels=stored, PatientOrientation=list(directions), ViewPosition="LL")).image()

    np.testing.assert_allclose(image, np.rot90(stored, quarter_turns) / 4095, atol=1e-6)


@pytest.mark.parametrize("directions", [("H", "L"), ("F", "L"), ("L", "H")], ids="".join)
def test_the_polarity_is_checked_on_the_turned_image(directions):
    """Turned, a right picture may look like a negative; with the setting `correct` it would become one."""
    upright = read(chest_bytes(PatientOrientation=["L", "F"]))
    turn = Turn(directions[0] in "HF", "H" in directions)
    stored = turn.undo(chest_pixels(64))

    radiograph = read(chest_bytes(pixels=stored, PatientOrientation=list(directions)))

    assert radiograph.provenance.polarity_score == pytest.approx(upright.provenance.polarity_score, abs=1e-3)
    assert radiograph.provenance.flags == (Flag.TURNED,)


def test_the_spacing_is_that_of_the_rows_as_shown():
    elements = {"PatientOrientation": ["F", "L"], "ImagerPixelSpacing": ["0.1", "0.2"]}

    assert read(chest_bytes(pixels=STORED["F", "L"], **elements)).provenance.pixel_spacing == 0.2


@pytest.mark.parametrize("turn", [Turn(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)])
def test_undoing_a_turn_gives_what_was_turned(turn):
    np.testing.assert_array_equal(turn.undo(turn(CHEST)), CHEST)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_is_applied_as_pillow_does(tmp_path, orientation, kind):
    """CIPA DC-008 (Exif), 4.6.4."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray((CHEST >> 4).astype(np.uint8)).save(tmp_path / "a", kind, exif=exif)

    with Image.open(tmp_path / "a") as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture)) / 255
    np.testing.assert_allclose(read_image(tmp_path / "a"), expected, atol=1e-6)


LUNGS = np.zeros((48, 40), np.uint8)
LUNGS[5:30, 3:15] = 1


@pytest.mark.parametrize("directions", STORED, ids="".join)
def test_a_mask_is_turned_with_its_dicom_image(tmp_path, directions):
    path = tmp_path / "a.dcm"
    chest_dataset(pixels=STORED[directions], PatientOrientation=list(directions)).save_as(
        path, enforce_file_format=True
    )
    turn, stored = image_turn(path)
    Image.fromarray(turn.undo(LUNGS) * 255).save(tmp_path / "mask.png")

    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", path), LUNGS)
    assert stored == STORED[directions].shape


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_is_turned_with_its_picture(tmp_path, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray((CHEST >> 4).astype(np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(LUNGS * 255).save(tmp_path / "mask.png")

    turn, _ = image_turn(tmp_path / "a.jpg")

    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", tmp_path / "a.jpg"), turn(LUNGS))


def test_a_mask_of_the_turned_images_size_is_taken_as_it_is(tmp_path):
    path = tmp_path / "a.dcm"
    chest_dataset(pixels=STORED["F", "L"], PatientOrientation=["F", "L"]).save_as(path, enforce_file_format=True)
    Image.fromarray(LUNGS * 255).save(tmp_path / "mask.png")

    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", path), LUNGS)
