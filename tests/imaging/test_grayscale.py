import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from cxr_isnet.imaging.acceptance import READING_RULES, AcceptanceConfig, Flag
from cxr_isnet.imaging.dicom import read_radiograph

STEPS = np.arange(0, 4096, 16).reshape(8, 32)


@pytest.fixture
def rendered(make_dicom):
    """Renders a file of `STEPS` with other elements."""

    def render(**elements):
        with make_dicom(**elements).open("rb") as stream:
            return read_radiograph(stream, AcceptanceConfig(), READING_RULES)

    return render


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": "2000", "WindowWidth": "0"},
        {"WindowCenter": "2000", "WindowWidth": "-5"},
        {"WindowCenter": "2000", "WindowWidth": "1"},
        {"WindowCenter": "2000"},
        {"WindowWidth": "2000"},
        {"WindowCenter": "90000", "WindowWidth": "100"},
        {"WindowCenter": "2000", "WindowWidth": "500", "VOILUTFunction": "CUBIC"},
        {"WindowCenter": "2000", "WindowWidth": "0", "VOILUTFunction": "SIGMOID"},
    ],
    ids=str,
)
def test_senseless_window_gives_way_to_percentiles_and_is_recorded(rendered, window):
    radiograph = rendered(**window)

    low, high = np.percentile(STEPS, [0.5, 99.5])
    expected = np.clip((STEPS - low) / (high - low), 0, 1)
    np.testing.assert_allclose(radiograph.image(), expected, atol=0.01)
    assert any(note.startswith("percentiles") for note in radiograph.provenance.assumed)
    assert any(note.startswith("percentile window") for note in radiograph.provenance.applied)


def test_lookup_table_that_cannot_be_applied_gives_way_to_the_window(rendered):
    item = Dataset()
    item.LUTDescriptor = [4, 1000, 12]  # and no LUTData

    radiograph = rendered(VOILUTSequence=[item], WindowCenter="1500", WindowWidth="900")

    np.testing.assert_array_equal(radiograph.image(), rendered(WindowCenter="1500", WindowWidth="900").image())
    assert any(note.startswith("VOI LUT ignored") for note in radiograph.provenance.assumed)


def test_lookup_table_that_claims_more_bits_than_it_uses_is_scaled_by_its_highest_entry(rendered):
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = np.arange(4096, dtype="<u2").tobytes()

    radiograph = rendered(VOILUTSequence=[item])

    np.testing.assert_allclose(radiograph.image(), STEPS / 4095, atol=1e-4)
    assert any("scaled by its highest entry" in note for note in radiograph.provenance.assumed)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("value", "limit"), [(4080, None), (4000, 4080), (4080, 4000), (0, None)])
def test_padding_is_dark_whatever_the_polarity(rendered, photometric, value, limit):
    image = rendered(
        PhotometricInterpretation=photometric, PixelPaddingValue=value, PixelPaddingRangeLimit=limit
    ).image()

    low, high = sorted((value, value if limit is None else limit))
    padded = (low <= STEPS) & (high >= STEPS)
    shown = STEPS / 4095 if photometric == "MONOCHROME2" else 1 - STEPS / 4095
    np.testing.assert_allclose(image, np.where(padded, 0, shown), atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("extended", "value"), [(True, 63488), (False, 2048), (True, -2048), (False, -2048)])
def test_negative_padding_that_is_written_as_unsigned_is_padding(rendered, photometric, extended, value):
    """PS3.3, C.7.5.1.1.2: its VR is that of the pixels; many writers take US for signed ones too, sign bits or not."""
    signed = STEPS - 2048
    stored = signed.astype("<i2") if extended else (signed & 0xFFF).astype("<u2")

    image = rendered(
        PixelData=stored.tobytes(), PixelRepresentation=1, PhotometricInterpretation=photometric,
        PixelPaddingValue=DataElement("PixelPaddingValue", "SS" if value < 0 else "US", value),
    ).image()  # fmt: skip

    shown = STEPS / 4095 if photometric == "MONOCHROME2" else 1 - STEPS / 4095
    np.testing.assert_allclose(image, np.where(STEPS == 0, 0, shown), atol=1e-6)


def test_padding_of_whole_pixels_is_no_value_of_the_stored_bits(rendered):
    """65535 around 12-bit values: white pixels of 4095 stay white."""
    stored = np.where(STEPS < 64, 65535, STEPS + 15).astype("<u2")

    image = rendered(PixelData=stored.tobytes(), PixelPaddingValue=65535).image()

    np.testing.assert_allclose(image, np.where(STEPS < 64, 0, (STEPS + 15) / 4095), atol=1e-6)


def test_padding_does_not_count_for_percentiles(rendered):
    stored = np.where(np.arange(256).reshape(8, 32) < 200, 4095, STEPS // 8 + 100).astype("<u2")

    image = rendered(PixelData=stored.tobytes(), PixelPaddingValue=4095, WindowCenter="1", WindowWidth="0").image()

    assert image[stored < 4095].min() == 0
    assert image[stored < 4095].max() == 1
    assert image[stored == 4095].max() == 0


def test_padding_that_covers_the_picture_is_ignored_and_recorded(rendered):
    radiograph = rendered(PixelPaddingValue=0, PixelPaddingRangeLimit=4095)

    np.testing.assert_allclose(radiograph.image(), STEPS / 4095, atol=1e-6)
    assert any("padding" in note for note in radiograph.provenance.assumed)


def test_bits_end_at_high_bit(rendered):
    shifted = (STEPS.astype("<u2") << 4) | 7  # junk below

    image = rendered(PixelData=shifted.tobytes(), HighBit=15).image()

    np.testing.assert_allclose(image, STEPS / 4095, atol=1e-6)


def test_overlay_bits_above_are_no_part_of_the_values_and_are_recorded(rendered):
    overlaid = STEPS.astype("<u2") | 0x8000

    radiograph = rendered(PixelData=overlaid.tobytes())

    np.testing.assert_allclose(radiograph.image(), STEPS / 4095, atol=1e-6)
    assert "bits above HighBit are no part of the values" in radiograph.provenance.assumed


def test_modality_table_goes_before_the_window(rendered):
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = (65535 - np.arange(4096, dtype="<u2")).tobytes()
    item.ModalityLUTType = "US"

    image = rendered(ModalityLUTSequence=[item], WindowCenter=str(65535 - 2047), WindowWidth="4096").image()

    np.testing.assert_allclose(image, 1 - STEPS / 4095, atol=1e-3)


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_sequence_of_no_table_is_none(rendered, keyword):
    """PS3.3, C.11.1 and C.11.2: a table is there or it is not; empty elements are a habit of exports."""
    radiograph = rendered(**{keyword: []}, RescaleSlope="1", RescaleIntercept="0", WindowCenter=2048, WindowWidth=4096)

    np.testing.assert_allclose(radiograph.image(), (STEPS - 2047.5) / 4095 + 0.5, atol=1e-6)
    assert radiograph.provenance.assumed == ()


def test_signed_values_and_rescale_before_a_window(rendered):
    signed = (STEPS - 2048).astype("<i2")

    image = rendered(
        PixelRepresentation=1, PixelData=signed.tobytes(), RescaleSlope="2", RescaleIntercept="10", WindowCenter="10",
        WindowWidth="8192",
    ).image()  # fmt: skip

    expected = np.clip((2 * signed + 10 - 9.5) / 8191 + 0.5, 0, 1)
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_slope_of_zero_counts_as_one_and_is_recorded(rendered):
    radiograph = rendered(RescaleSlope="0", RescaleIntercept="0")

    np.testing.assert_allclose(radiograph.image(), STEPS / 4095, atol=1e-6)
    assert any("slope" in note for note in radiograph.provenance.assumed)


def test_sixteen_bit_rendering_is_the_same_picture(rendered):
    radiograph = rendered(WindowCenter="1500", WindowWidth="900", PhotometricInterpretation="MONOCHROME1")

    np.testing.assert_allclose(
        np.concatenate(list(radiograph.uint16_bands())) / 65535, radiograph.image(), atol=1 / 65535
    )


def test_picture_of_nearly_one_grey_is_flagged(rendered):
    flat = np.full((8, 32), 2000, dtype="<u2")

    assert "low_contrast" in [flag.value for flag in rendered(PixelData=flat.tobytes()).provenance.flags]


@pytest.mark.parametrize(
    ("center", "width"), [("127", "255"), ("40000", "80000"), ("-3000", "500"), ("8000", "1")], ids=str
)
def test_a_window_that_clips_nearly_all_is_flagged_or_ignored(rendered, center, width):
    """A window of 8 bits on 12-bit values leaves a white picture."""
    radiograph = rendered(WindowCenter=center, WindowWidth=width)

    flagged = Flag.CLIPPED in radiograph.provenance.flags or Flag.LOW_CONTRAST in radiograph.provenance.flags
    assert flagged or any(note.startswith("percentiles") for note in radiograph.provenance.assumed)


def test_the_grey_values_of_a_window_that_clips_are_those_of_the_standard_nonetheless(rendered):
    """PS3.3, C.11.2.1.2.1."""
    radiograph = rendered(WindowCenter="127", WindowWidth="255")

    np.testing.assert_allclose(radiograph.image(), np.clip((STEPS - 126.5) / 254 + 0.5, 0, 1), atol=1e-6)
    assert Flag.CLIPPED in radiograph.provenance.flags


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_black_air_is_not_what_a_window_clips(rendered, function):
    stored = np.where(np.arange(256).reshape(8, 32) < 200, 0, STEPS).astype("<u2")

    flags = rendered(
        PixelData=stored.tobytes(), WindowCenter="2600", WindowWidth="2800", VOILUTFunction=function
    ).provenance.flags

    assert Flag.CLIPPED not in flags


@pytest.mark.parametrize(
    ("photometric", "shape", "doubted"),
    [
        ("MONOCHROME1", "INVERSE", False),
        ("MONOCHROME1", None, False),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_an_image_is_inverted_once_and_tags_that_do_not_belong_together_are_noted(
    rendered, photometric, shape, doubted
):
    """PS3.3, C.8.11.3.1.2: INVERSE goes with MONOCHROME1, IDENTITY with MONOCHROME2."""
    radiograph = rendered(PhotometricInterpretation=photometric, PresentationLUTShape=shape)

    np.testing.assert_allclose(radiograph.image(), 1 - STEPS / 4095, atol=1e-6)
    assert any("contradicts" in note for note in radiograph.provenance.assumed) == doubted
