"""Renderings of other libraries, where they are right."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import uid
from transcoding import transcode

from cxr_isnet.imaging import read_image
from tests.imaging.chest_files import chest_pixels, write_chest
from tests.imaging.decoders import needs_decoders

PIXELS = chest_pixels(96)


@pytest.mark.parametrize(
    ("photometric", "syntax"),
    [
        *(
            (photometric, syntax)
            for photometric in ("MONOCHROME1", "MONOCHROME2")
            for syntax in (None, uid.RLELossless)
        ),
        pytest.param("MONOCHROME1", uid.JPEGLosslessSV1, marks=needs_decoders),
        pytest.param("MONOCHROME2", uid.JPEGLosslessSV1, marks=needs_decoders),
        pytest.param("MONOCHROME2", uid.JPEG2000Lossless, marks=needs_decoders),
    ],  # not JPEG 2000 in MONOCHROME1: SimpleITK inverts it in the 16 bits allocated, not in the 12 stored
    ids=str,
)
def test_without_a_window_simpleitk_gives_the_same_picture(tmp_path, photometric, syntax):
    path = write_chest(tmp_path / "chest.dcm", pixels=PIXELS, PhotometricInterpretation=photometric)
    if syntax:
        transcode(path, syntax)

    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0] / 4095  # it inverts MONOCHROME1
    np.testing.assert_allclose(read_image(path), expected, atol=1e-6)


def test_rescaled_and_signed_values_are_those_of_simpleitk(tmp_path):
    signed = (PIXELS.astype(np.int32) - 2048).astype("<i2")
    path = write_chest(
        tmp_path / "chest.dcm", pixels=PIXELS, PixelRepresentation=1, PixelData=signed.tobytes(), RescaleSlope="3",
        RescaleIntercept="-7",
    )  # fmt: skip

    values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0].astype(float)
    low, high = (3 * end - 7 for end in (-2048, 2047))
    np.testing.assert_allclose(read_image(path), (values - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
def test_windows_are_those_of_simpleitk_up_to_half_a_grey_value(tmp_path, function):
    path = write_chest(
        tmp_path / "chest.dcm", pixels=PIXELS, WindowCenter="1500", WindowWidth="900", VOILUTFunction=function
    )

    windowed = sitk.IntensityWindowing(sitk.ReadImage(str(path), sitk.sitkFloat64), 1050, 1950, 0, 1)
    np.testing.assert_allclose(read_image(path), sitk.GetArrayFromImage(windowed)[0], atol=1 / 900)


HIGHDICOM_CASES = [
    {},
    {"WindowCenter": "1500", "WindowWidth": "900"},
    {"WindowCenter": "1500", "WindowWidth": "900", "VOILUTFunction": "LINEAR_EXACT"},
    {"WindowCenter": "1500", "WindowWidth": "900", "VOILUTFunction": "SIGMOID"},
    {"WindowCenter": "1500", "WindowWidth": "900", "RescaleSlope": "0.5", "RescaleIntercept": "100"},
]


@pytest.mark.oracle
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("elements", HIGHDICOM_CASES, ids=str)
def test_highdicom_gives_the_same_picture(tmp_path, elements, photometric):
    highdicom = pytest.importorskip("highdicom")
    path = write_chest(tmp_path / "chest.dcm", pixels=PIXELS, PhotometricInterpretation=photometric, **elements)

    frame = highdicom.imread(path).get_frame(
        1, apply_voi_transform=None, apply_presentation_lut=True, voi_output_range=(0.0, 1.0), dtype=np.float64
    )

    if "WindowCenter" not in elements:
        frame = frame / 4095
    # it merges window and rescale, and takes one stored value from the width, where PS3.3 takes one rescaled value
    np.testing.assert_allclose(read_image(path), frame, atol=1 / 900 if "RescaleSlope" in elements else 1e-5)


@pytest.mark.oracle
@pytest.mark.realdata
def test_highdicom_gives_the_same_picture_of_a_real_windowed_monochrome1(real_data_folder):
    highdicom = pytest.importorskip("highdicom")
    path = real_data_folder / "dicom/RG1_J2KI.dcm"

    frame = highdicom.imread(path).get_frame(
        1, apply_voi_transform=True, apply_presentation_lut=True, voi_output_range=(0.0, 1.0), dtype=np.float64
    )

    np.testing.assert_allclose(read_image(path), frame, atol=1e-5)


@pytest.mark.realdata
def test_one_image_in_two_syntaxes_is_one_image(real_data_folder):
    first, second = (pydicom.dcmread(real_data_folder / f"dicom/RG3_{kind}.dcm") for kind in ("J2KR", "RLE"))

    np.testing.assert_array_equal(first.pixel_array, second.pixel_array)
    np.testing.assert_array_equal(
        read_image(real_data_folder / "dicom/RG3_J2KR.dcm"), read_image(real_data_folder / "dicom/RG3_RLE.dcm")
    )
