"""Whatever a file holds, reading it ends in a radiograph or in a rejection."""

from io import BytesIO

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.rejection import RejectedFile
from tests.imaging.chest_files import chest_bytes

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's, on writing what it should not

WHOLE = chest_bytes(BurnedInAnnotation="NO", WindowCenter="2000", WindowWidth="4000", PixelPaddingValue=0)
HEADER = len(WHOLE) - 2 * 64 * 64

CHANGES = st.lists(st.tuples(st.integers(0, HEADER + 7), st.integers(0, 255)), min_size=1, max_size=12)
SPLICES = st.tuples(st.integers(0, HEADER), st.integers(0, HEADER), st.binary(max_size=40))


def read(content):
    try:
        image = read_radiograph(
            BytesIO(content), AcceptanceConfig(multiframe=True, other_views=True), INTAKE_RULES
        ).image()
    except RejectedFile:
        return
    assert image.ndim == 2
    assert 0 <= image.min() <= image.max() <= 1


@settings(max_examples=120, deadline=None)
@given(CHANGES)
def test_changed_bytes(changes):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value

    read(bytes(content))


@settings(max_examples=80, deadline=None)
@given(SPLICES)
def test_bytes_cut_out_and_put_in(splice):
    start, end, new = splice

    read(WHOLE[: min(start, end)] + new + WHOLE[max(start, end) :])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(content, with_prefix):
    read(b"\0" * 128 + b"DICM" + content if with_prefix else content)


TEXT = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20)
VALUES = {
    "Modality": st.sampled_from(["CR", "DX", "", "\\"]) | TEXT,
    "ViewPosition": TEXT,
    "BodyPartExamined": TEXT,
    "PatientAge": TEXT,
    "WindowCenter": st.sampled_from(["1e400", "nan", "-1", "0", "2000\\5"]),
    "WindowWidth": st.sampled_from(["1e400", "nan", "-1", "0", "1", "2000\\5"]),
    "RescaleSlope": st.sampled_from(["0", "1e300", "-2", ""]),
    "RescaleIntercept": st.sampled_from(["0", "1e300", ""]),
    "BitsStored": st.integers(0, 40),
    "HighBit": st.integers(0, 40),
    "BitsAllocated": st.sampled_from([0, 1, 8, 12, 16, 32, 64]),
    "PixelRepresentation": st.integers(0, 3),
    "SamplesPerPixel": st.integers(0, 5),
    "PixelPaddingValue": st.integers(0, 32767),
    "Rows": st.sampled_from([0, 1, 63, 64, 65, 65535]),
    "Columns": st.sampled_from([0, 1, 63, 64, 65, 65535]),
    "PhotometricInterpretation": st.sampled_from(["MONOCHROME1", "RGB", "YBR_FULL", "PALETTE COLOR", "X", ""]),
}


@settings(max_examples=80, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_any_values(elements):
    try:
        content = chest_bytes(**elements)
    except (AttributeError, OSError, TypeError, ValueError):
        reject()  # pydicom does not write it

    read(content)
