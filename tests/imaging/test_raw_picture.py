"""Pictures of stored values with their tags beside them, as BIMCV-COVID19+ publishes them (DICOM PS3.18, Annex F)."""

import json

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import Header, read_image, read_json_header, read_raw_picture

STEPS = np.arange(0, 1024, 4, dtype=np.uint16).reshape(8, 32)


def tags(**values):
    """A JSON header of tags by keyword."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset.to_json_dict()


@pytest.fixture
def rendered(tmp_path):
    def render(pixels=STEPS, header=None, **values):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        (tmp_path / "a.json").write_text(json.dumps(tags(**values) if header is None else header))
        return read_raw_picture(tmp_path / "a.png", read_json_header(tmp_path / "a.json"))

    return render


@pytest.mark.parametrize("bits", [{}, {"BitsStored": 10}])
def test_values_are_scaled_by_the_bits_stored_and_monochrome1_is_inverted(rendered, bits):
    """PS3.3, C.7.6.3.1.2: MONOCHROME1, the minimum is white."""
    plain = rendered(PhotometricInterpretation="MONOCHROME2", **bits).image()
    inverted = rendered(PhotometricInterpretation="MONOCHROME1", **bits).image()

    np.testing.assert_allclose(plain, STEPS / 1023, atol=1e-6)
    np.testing.assert_allclose(inverted, 1 - STEPS / 1023, atol=1e-6)


def test_a_window_is_applied(rendered):
    """PS3.3, C.11.2.1.2.1."""
    image = rendered(WindowCenter="500", WindowWidth="401", BitsStored=10).image()

    np.testing.assert_allclose(image, np.clip((STEPS - 499.5) / 400 + 0.5, 0, 1), atol=1e-6)


def test_a_voi_lut_is_applied(rendered):
    """PS3.3, C.11.2.1.1."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [1024, 0, 12])
    item.add_new("LUTData", "US", [4 * (1023 - value) for value in range(1024)])

    image = rendered(VOILUTSequence=[item], BitsStored=10).image()

    np.testing.assert_allclose(image, 4 * (1023 - STEPS.astype(int)) / 4095, atol=1e-6)


def test_eight_bits(rendered):
    eight = np.arange(0, 256, dtype=np.uint8).reshape(8, 32)

    image = rendered(eight, PhotometricInterpretation="MONOCHROME1", BitsStored=8).image()

    np.testing.assert_allclose(image, 1 - eight / 255, atol=1e-6)


def test_what_is_written_reads_back_as_what_was_rendered(rendered, tmp_path):
    radiograph = rendered(PhotometricInterpretation="MONOCHROME1")

    radiograph.write_png(tmp_path / "b.png")

    np.testing.assert_allclose(read_image(tmp_path / "b.png"), radiograph.image(), atol=1 / 65535)


def test_values_that_the_tags_do_not_allow_are_an_error(rendered):
    with pytest.raises(InputError, match=r"a\.png: uses 10 bits, but BitsStored \(0028,0101\) is 8"):
        rendered(BitsStored=8)


def test_a_picture_in_colour_is_an_error(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    with pytest.raises(InputError, match="mode 'RGB'"):
        read_raw_picture(tmp_path / "a.png", Header(Dataset()))


def test_an_element_that_does_not_parse_counts_as_absent(rendered):
    header = tags(PhotometricInterpretation="MONOCHROME1") | {
        "00281050": {"vr": "DS", "Value": ["no number"]},
        "00280101": {"vr": "US", "Value": ["ten"]},
        "not a tag": 1,
        "00100010": {"vr": "PN", "Value": 5},
    }

    np.testing.assert_allclose(rendered(header=header).image(), 1 - STEPS / 1023, atol=1e-6)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 5000])
def test_what_is_no_json_header_is_an_error(tmp_path, content):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(InputError, match=r"a\.json"):
        read_json_header(tmp_path / "a.json")
