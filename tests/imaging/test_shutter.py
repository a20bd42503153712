"""The display shutter by PS3.3, C.7.6.11: rows and columns count from 1; what lies in all shapes is visible."""

import numpy as np
import pytest

from cxr_isnet.imaging import Flag
from cxr_isnet.imaging.acceptance import READING_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph

STEPS = np.arange(0, 4096, 16).reshape(8, 32)
ROWS, COLUMNS = np.arange(1, 9)[:, None], np.arange(1, 33)[None, :]

RECTANGLE = {
    "ShutterShape": "RECTANGULAR",
    "ShutterUpperHorizontalEdge": 2,
    "ShutterLowerHorizontalEdge": 6,
    "ShutterLeftVerticalEdge": 5,
    "ShutterRightVerticalEdge": 30,
}
IN_RECTANGLE = (ROWS >= 2) & (ROWS <= 6) & (COLUMNS >= 5) & (COLUMNS <= 30)
CIRCLE = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [4, 16], "RadiusOfCircularShutter": 4}
IN_CIRCLE = (ROWS - 4) ** 2 + (COLUMNS - 16) ** 2 <= 16
TRIANGLE = {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 1, 8, 8, 1]}
IN_TRIANGLE = ROWS + COLUMNS <= 9


@pytest.fixture
def rendered(make_dicom):
    def render(**elements):
        with make_dicom(**elements).open("rb") as stream:
            return read_radiograph(stream, AcceptanceConfig(), READING_RULES)

    return render


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("shutter", "inside"),
    [
        (RECTANGLE, IN_RECTANGLE),
        (CIRCLE, IN_CIRCLE),
        (TRIANGLE, IN_TRIANGLE),
        (RECTANGLE | CIRCLE | {"ShutterShape": ["RECTANGULAR", "CIRCULAR"]}, IN_RECTANGLE & IN_CIRCLE),
        (RECTANGLE | {"ShutterShape": ["RECTANGULAR", "BITMAP"]}, IN_RECTANGLE),
        (RECTANGLE | {"ShutterShape": ["CIRCULAR", "RECTANGULAR"]}, IN_RECTANGLE),
        (RECTANGLE | {"ShutterUpperHorizontalEdge": -3}, IN_RECTANGLE | (ROWS < 2) & (COLUMNS >= 5) & (COLUMNS <= 30)),
    ],
    ids=["rectangle", "circle", "polygon", "both", "one unknown", "one not whole", "beyond the image"],
)
def test_what_lies_outside_is_dark_and_what_lies_inside_is_as_it_was(rendered, shutter, inside, photometric):
    plain = rendered(PhotometricInterpretation=photometric).image()

    radiograph = rendered(PhotometricInterpretation=photometric, **shutter)

    np.testing.assert_allclose(radiograph.image(), np.where(inside, plain, 0), atol=1e-6)
    assert radiograph.provenance.applied[0].startswith("display shutter")


def test_hidden_pixels_do_not_count_for_percentiles(rendered):
    bright = np.where(IN_RECTANGLE, STEPS // 4, 4095).astype("<u2")

    image = rendered(PixelData=bright.tobytes(), WindowCenter="1", WindowWidth="0", **RECTANGLE).image()

    assert image[IN_RECTANGLE].max() == 1
    assert not image[~IN_RECTANGLE].any()


def test_eight_bits_of_which_all_patterns_are_used(rendered):
    eight = np.arange(256, dtype=np.uint8).reshape(8, 32)

    image = rendered(
        PixelData=eight.tobytes(), BitsAllocated=8, BitsStored=8, HighBit=7, PhotometricInterpretation="MONOCHROME1",
        **RECTANGLE,
    ).image()  # fmt: skip

    np.testing.assert_allclose(image, np.where(IN_RECTANGLE, 1 - eight / 255, 0), atol=1e-6)


@pytest.mark.parametrize(
    "shutter",
    [
        {"ShutterShape": "BITMAP"},
        RECTANGLE | {"ShutterLeftVerticalEdge": None},
        RECTANGLE | {"ShutterLeftVerticalEdge": 31},
        CIRCLE | {"RadiusOfCircularShutter": 0},
        TRIANGLE | {"VerticesOfThePolygonalShutter": [1, 1, 2, 2]},
    ],
    ids=str,
)
def test_a_shutter_that_cannot_be_applied_is_recorded_and_changes_nothing(rendered, shutter):
    radiograph = rendered(**shutter)

    np.testing.assert_allclose(radiograph.image(), STEPS / 4095, atol=1e-6)
    assert any(note.startswith("display shutter ignored") for note in radiograph.provenance.assumed)


def test_the_picture_check_sees_what_is_visible_only(rendered):
    """White collimation outside the field is no reason to take a chest for a negative, nor is it contrast."""
    flat = np.where(IN_RECTANGLE, 2000, 4095).astype("<u2")

    assert Flag.LOW_CONTRAST in rendered(PixelData=flat.tobytes(), **RECTANGLE).provenance.flags
