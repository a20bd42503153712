import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image

STEPS = np.arange(0, 4096, 16).reshape(8, 32)


def test_without_a_window_values_are_scaled_by_bits_stored(make_dicom):
    image = read_image(make_dicom())

    assert image.dtype == np.float32
    np.testing.assert_allclose(image, STEPS / 4095, atol=1e-6)


@pytest.mark.parametrize(
    "elements",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_inverted_exactly_once(make_dicom, elements):
    np.testing.assert_allclose(read_image(make_dicom(**elements)), 1 - STEPS / 4095, atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(make_dicom, function):
    path = make_dicom(WindowCenter="1500", WindowWidth="900", VOILUTFunction=function)

    file = pydicom.dcmread(path)
    expected = apply_voi_lut(file.pixel_array, file) / 4095
    np.testing.assert_allclose(read_image(path), expected, atol=1e-3 if function == "LINEAR_EXACT" else 1e-5)


def test_first_of_several_windows_is_used(make_dicom):
    several = read_image(make_dicom(WindowCenter=["1500", "100"], WindowWidth=["900", "50"]))

    np.testing.assert_array_equal(several, read_image(make_dicom(WindowCenter="1500", WindowWidth="900")))


def test_lookup_table_goes_before_the_window(make_dicom):
    item = Dataset()
    item.LUTDescriptor = [4, 1000, 12]
    item.LUTData = np.array([0, 1365, 2730, 4095], dtype="<u2").tobytes()

    image = read_image(make_dicom(VOILUTSequence=[item], WindowCenter="1", WindowWidth="2"))

    assert set(np.unique(image.round(4))) <= {0.0, 0.3333, 0.6667, 1.0}
    assert image[STEPS < 1000].max() == 0
    assert image[STEPS > 1003].min() == 1


def test_rescaled_values_fill_the_range(make_dicom):
    image = read_image(make_dicom(RescaleSlope="-2", RescaleIntercept="100"))

    np.testing.assert_allclose(image, 1 - STEPS / 4095, atol=1e-6)


def test_signed_values(make_dicom):
    signed = (STEPS - 2048).astype(np.int16)

    image = read_image(make_dicom(PixelRepresentation=1, PixelData=signed.tobytes()))

    np.testing.assert_allclose(image, STEPS / 4095, atol=1e-6)


def test_known_by_content_not_by_name(make_dicom, tmp_path):
    path = make_dicom().rename(tmp_path / "looks_like.png")

    assert read_image(path).shape == (8, 32)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Modality": "CT"}, r"Modality \(0008,0060\) is 'CT'"),
        ({"NumberOfFrames": 2}, r"NumberOfFrames \(0028,0008\) is 2"),
        ({"SamplesPerPixel": 4}, r"with 4 samples per pixel"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"PhotometricInterpretation \(0028,0004\) is 'PALETTE COLOR'"),
        ({"PresentationIntentType": "FOR PROCESSING"}, r"PresentationIntentType \(0008,0068\) is 'FOR PROCESSING'"),
        ({"BitsStored": None}, r"BitsStored \(0028,0101\) is missing"),
        ({"PixelData": None}, r"PixelData \(7FE0,0010\) is missing"),
        ({"BitsStored": 17}, r"BitsStored \(0028,0101\) is 17 of 16 allocated"),
        ({"PixelRepresentation": 2}, r"PixelRepresentation \(0028,0103\) is 2, not 0 or 1. Repair the header"),
        ({"BitsAllocated": 32}, r"BitsAllocated \(0028,0100\) is 32"),
        ({"Rows": None}, r"Rows \(0028,0010\) is missing"),
        ({"PixelData": STEPS.astype("<u2").tobytes()[:100]}, r"cannot be decoded"),
    ],
)
def test_an_unusable_header_is_named_with_tag_and_value(make_dicom, elements, message):
    path = make_dicom(**elements)

    with pytest.raises(InputError, match=rf"image\.dcm: .*{message}"):
        read_image(path)


@pytest.mark.parametrize("length", [132, 140, 300, 900])
def test_truncated_file(make_dicom, length):
    path = make_dicom()
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(InputError, match=r"image\.dcm"):
        read_image(path)


@pytest.mark.realdata
def test_real_monochrome1_chest_shows_bright_bones_and_dark_air(real_data_folder):
    image = read_image(real_data_folder / "dicom/RG1_J2KI.dcm")

    middle = image[image.shape[0] // 2, image.shape[1] // 2 - 50 : image.shape[1] // 2 + 50].mean()
    corners = np.mean([image[40, 40], image[40, -40]])
    assert image.shape == (1955, 1841)
    assert middle > corners


@pytest.mark.realdata
def test_real_polarity_follows_the_tag(real_data_folder):
    right = read_image(real_data_folder / "dicom/nih_cr_chest.dcm")
    wrong = read_image(real_data_folder / "dicom/nih_cr_chest_wrong_monochrome1.dcm")

    np.testing.assert_allclose(right, 1 - wrong, atol=1e-6)
