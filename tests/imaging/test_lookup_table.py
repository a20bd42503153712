"""LUT Descriptor and LUT Data in all their encodings, by PS3.3, C.11.1.1.1 (modality LUT) and C.11.2.1.1 (VOI LUT)."""

import io
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from cxr_isnet.imaging.acceptance import READING_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.header import Header
from cxr_isnet.imaging.lookup_table import read_lookup_table
from tests.imaging.chest_files import chest_dataset

RAMP = np.arange(0, 4096, 585, dtype=np.uint16)[:8].reshape(1, 8).repeat(4, axis=0)
"""Eight grey values of 12 bits, the last of them 4095."""

EIGHT = (np.arange(4096) >> 4).astype(np.uint8)
"""A table of 8 bits for 12-bit values."""


def table(data, descriptor, vr="OW"):
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if min(descriptor) >= 0 else "SS", descriptor)
    item.add_new("LUTData", vr, data)
    return item


def packed(entries, order="<"):
    """Two entries of 8 bits to a word, the first in the low byte."""
    return entries.view("<u2").astype(f"{order}u2").tobytes()


def render(little_endian=True, implicit=False, **elements):
    file = chest_dataset(pixels=RAMP, **elements)
    file.file_meta.TransferSyntaxUID = (
        pydicom.uid.ImplicitVRLittleEndian
        if implicit
        else pydicom.uid.ExplicitVRLittleEndian
        if little_endian
        else pydicom.uid.ExplicitVRBigEndian
    )
    if not little_endian:
        file["PixelData"].VR = "OW"
        file.PixelData = np.frombuffer(file.PixelData, "<u2").astype(">u2").tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file, enforce_file_format=True)
    return read_radiograph(stream, AcceptanceConfig(), READING_RULES)


@pytest.mark.parametrize(
    ("data", "vr"),
    [
        (packed(EIGHT), "OW"),
        (np.frombuffer(packed(EIGHT), "<u2").tolist(), "US"),
        (EIGHT.astype("<u2").tobytes(), "OW"),
        (EIGHT.astype(int).tolist(), "US"),
    ],
    ids=["packed OW", "packed US", "padded OW", "padded US"],
)
def test_voi_lut_of_8_bits_per_entry_packed_and_padded_to_words(data, vr):
    image = render(VOILUTSequence=[table(data, [4096, 0, 8], vr)]).image()

    np.testing.assert_allclose(image, (RAMP >> 4) / 255, atol=1e-6)


def test_voi_lut_of_8_bits_in_big_endian():
    little = render(VOILUTSequence=[table(packed(EIGHT), [4096, 0, 8])])
    big = render(little_endian=False, VOILUTSequence=[table(packed(EIGHT, ">"), [4096, 0, 8])])

    np.testing.assert_allclose(big.image(), little.image(), atol=1e-6)


def test_packed_entries_of_an_odd_number_are_padded_by_one():
    image = render(VOILUTSequence=[table(packed(EIGHT), [4095, 0, 8])]).image()

    np.testing.assert_allclose(image, np.minimum(RAMP, 4094).astype(int) // 16 / 255, atol=1e-6)


@pytest.mark.parametrize("data", [packed(EIGHT), EIGHT.astype("<u2").tobytes()], ids=["packed", "padded"])
def test_modality_lut_of_8_bits_per_entry(data):
    item = table(data, [4096, 0, 8])
    item.ModalityLUTType = "US"

    image = render(ModalityLUTSequence=[item]).image()

    np.testing.assert_allclose(image, (RAMP >> 4) / 255, atol=1e-6)


def test_voi_lut_behind_a_rescale_slope_clamps_and_does_not_wrap():
    """Values of 0 to 16380 into a table of 0 to 4095: what lies above has the last entry."""
    entries = np.arange(4096, dtype="<u2") * 16

    image = render(RescaleSlope="4", RescaleIntercept="0", VOILUTSequence=[table(entries.tobytes(), [4096, 0, 16])])

    np.testing.assert_allclose(image.image(), np.minimum(4 * RAMP.astype(int), 4095) * 16 / 65535, atol=1e-6)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("first", [-2048, 63488])
def test_first_value_is_signed_where_the_values_are(first, implicit):
    """63488 is -2048 read as US."""
    signed = (RAMP.astype(int) - 2048).astype("<i2")
    entries = np.arange(4096, dtype="<u2") * 16

    image = render(
        implicit=implicit, PixelRepresentation=1, PixelData=signed.tobytes(),
        VOILUTSequence=[table(entries.tobytes(), [4096, first, 16])],
    ).image()  # fmt: skip

    np.testing.assert_allclose(image, RAMP * 16 / 65535, atol=1e-6)


def test_zero_entries_stand_for_65536():
    found = read_lookup_table(Header(table(bytes(2 * 65536), [0, 0, 16])), (0.0, 65535.0), True)

    assert len(found.entries) == 65536


def test_a_descriptor_read_as_signed_has_its_number_of_entries_nonetheless():
    found = read_lookup_table(Header(table(bytes(2 * 40000), [40000 - 65536, 0, 16])), (-9.0, 9.0), True)

    assert len(found.entries) == 40000


@pytest.mark.parametrize(
    ("descriptor", "length"), [([4096, 0, 8], 4094), ([4096, 0, 16], 8190), ([4096, 0, 17], 8192), ([1, 0, 0], 2)]
)
def test_a_table_that_is_not_whole_or_makes_no_sense_is_an_error(descriptor, length):
    with pytest.raises(ValueError, match=r"entries of|bits per entry"):
        read_lookup_table(Header(table(bytes(length), descriptor)), (0.0, 4095.0), True)


def test_a_modality_lut_that_claims_more_bits_than_it_uses_is_scaled_by_its_highest_entry():
    item = table(np.arange(4096, dtype="<u2").tobytes(), [4096, 0, 16])

    radiograph = render(ModalityLUTSequence=[item])

    np.testing.assert_allclose(radiograph.image(), RAMP / 4095, atol=1e-6)
    assert any(note.startswith("modality LUT scaled") for note in radiograph.provenance.assumed)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "elements",
    [
        {"VOILUTSequence": [table(packed(EIGHT), [4096, 0, 8])]},
        {"VOILUTSequence": [table(EIGHT.astype("<u2").tobytes(), [4096, 0, 8])]},
        {"ModalityLUTSequence": [table(packed(EIGHT), [4096, 0, 8])], "WindowCenter": "128", "WindowWidth": "256"},
        {
            "RescaleSlope": "4",
            "RescaleIntercept": "0",
            "VOILUTSequence": [table((np.arange(4096, dtype="<u2") * 16).tobytes(), [4096, 0, 16])],
        },
    ],
    ids=["packed", "padded", "modality", "slope"],
)
def test_dcmtk_gives_the_same_picture(tmp_path, elements):
    tool = shutil.which("dcmj2pnm")
    if tool is None:
        pytest.skip("DCMTK is not installed")
    file = chest_dataset(pixels=RAMP, **elements)
    file.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    window = ["+Wi", "1"] if "WindowCenter" in elements else ["+Wl", "1"]

    subprocess.run([tool, *window, "+op", tmp_path / "a.dcm", tmp_path / "a.pgm"], check=True)

    with Image.open(tmp_path / "a.pgm", formats=["PPM"]) as picture:
        np.testing.assert_allclose(render(**elements).image(), np.asarray(picture) / 255, atol=2 / 255)
