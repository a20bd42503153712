"""What the provenance of a radiograph records of its header and of its rendered image."""

from io import BytesIO

import pytest

from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig, Flag
from cxr_isnet.imaging.dicom import correct_polarity, read_radiograph
from cxr_isnet.imaging.polarity import NEGATIVE_BELOW
from tests.imaging.chest_files import SECRET, chest_bytes, chest_pixels

NEGATIVE = (4095 - chest_pixels(seed=1)).astype("<u2").tobytes()


def read(**elements):
    return read_radiograph(BytesIO(chest_bytes(1, **elements)), AcceptanceConfig(), INTAKE_RULES)


def provenance(**elements):
    return read(**elements).provenance


def test_values_of_the_header():
    found = provenance()

    assert (found.modality, found.view, found.body_part, found.photometric) == ("CR", "PA", "CHEST", "MONOCHROME2")
    assert found.sop_class == "Computed Radiography Image Storage"
    assert found.transfer_syntax == "Explicit VR Little Endian"
    assert (found.rows, found.columns, found.bits_stored) == (64, 64, 12)
    assert (found.manufacturer, found.model) == ("other", "other")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("FUJI PHOTO FILM CO. LTD.", "Fujifilm"), ("FUJIFILM Corporation", "Fujifilm"), ("GE Healthcare", "GE"),
        ('"GE Healthcare"', "GE"), ("GE MEDICAL SYSTEMS", "GE"), ("General Electric", "GE"),
        ("General Hospital", "other"),
        ("Philips Medical Systems", "Philips"), ("Agfa-Gevaert AG", "Agfa"), ("SIEMENS", "Siemens"),
        ("KONICA MINOLTA", "Konica Minolta"), ("Carestream Health", "Carestream"), ("Canon Inc.", "Canon"),
        ("Dr. Siemens Mustermann", "other"), ("4711", "other"), (None, ""),
    ],
)  # fmt: skip
def test_the_manufacturer_is_one_of_a_closed_set(text, name):
    assert provenance(Manufacturer=text).manufacturer == name


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({"ImagerPixelSpacing": ["0.2", "0.3"], "PixelSpacing": ["0.5", "0.5"]}, 0.2),
        ({"ImagerPixelSpacing": ["0", "0"], "PixelSpacing": ["0.5", "0.5"]}, 0.5),
        ({"PixelSpacing": ["0.5", "0.5"]}, 0.5),
        ({}, None),
    ],
)
def test_spacing_is_that_of_the_detector_where_it_is_given(elements, spacing):
    assert provenance(**elements).pixel_spacing == spacing


def test_polarity_is_scored_on_the_rendered_image():
    right, same, wrong = (
        provenance(),
        provenance(PhotometricInterpretation="MONOCHROME1", PixelData=NEGATIVE),
        provenance(PixelData=NEGATIVE),
    )

    assert right.polarity_score == pytest.approx(same.polarity_score, abs=1e-3)
    assert right.flags == same.flags == ()
    assert wrong.polarity_score < NEGATIVE_BELOW
    assert wrong.flags == (Flag.POLARITY,)


def test_a_corrected_polarity_inverts_the_image_and_is_recorded():
    corrected = correct_polarity(read(PixelData=NEGATIVE))

    assert corrected.image() == pytest.approx(read().image(), abs=1e-6)
    assert corrected.provenance.flags == (Flag.POLARITY_CORRECTED,)
    assert corrected.provenance.applied[-1] == "inverted by the picture check"


@pytest.mark.filterwarnings("ignore")  # pydicom's, on writing what the standard does not allow
def test_what_may_identify_a_person_is_left_out():
    found = provenance(
        BodyPartExamined=f"Chest of Mrs. {SECRET}",
        Manufacturer=f"{SECRET}\nsecond line",
        ManufacturerModelName="x" * 64 + SECRET,
        SOPClassUID="2.25.19500101",
    )

    assert SECRET not in "".join(found.cells().values())
    assert (found.body_part, found.sop_class) == ("CHEST", "(not shown)")
    assert (found.manufacturer, found.model) == ("other", "other")


def test_cells_are_text():
    cells = provenance(PixelData=NEGATIVE, ViewPosition=None).cells()

    assert cells["flags"] == "unknown_view; polarity"
    assert (cells["rows"], cells["pixel_spacing"]) == ("64", "")
