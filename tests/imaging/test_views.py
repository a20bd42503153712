import pytest
from pydicom.dataset import Dataset

from cxr_isnet.imaging.header import Header
from cxr_isnet.imaging.views import View, find_view


def coded(value, scheme="SCT"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "some view"
    return [item]


def dataset(**elements):
    file = Dataset()
    for keyword, value in elements.items():
        setattr(file, keyword, value)
    return Header(file)


@pytest.mark.parametrize(
    ("elements", "view", "keyword"),
    [
        ({"ViewPosition": "PA"}, View.PA, "ViewPosition"),
        ({"ViewPosition": "AP SUPINE"}, View.AP, "ViewPosition"),
        ({"ViewPosition": "LL"}, View.LATERAL, "ViewPosition"),
        ({"ViewPosition": "LATERAL"}, View.LATERAL, "ViewPosition"),
        ({"ViewPosition": "LLD"}, View.OTHER, "ViewPosition"),
        ({"ViewPosition": "AP DECUBITUS"}, View.OTHER, "ViewPosition"),
        ({"ViewCodeSequence": coded("272479007")}, View.PA, "ViewCodeSequence"),
        ({"ViewCodeSequence": coded("399348003")}, View.AP, "ViewCodeSequence"),
        ({"ViewCodeSequence": coded("R-10206", "SRT")}, View.AP, "ViewCodeSequence"),
        ({"ViewCodeSequence": coded("399173006")}, View.LATERAL, "ViewCodeSequence"),
        ({"ViewCodeSequence": coded("399135007")}, View.OTHER, "ViewCodeSequence"),
        ({"PatientOrientation": ["L", "F"]}, View.FRONTAL, "PatientOrientation"),
        ({"PatientOrientation": ["R", "F"]}, View.FRONTAL, "PatientOrientation"),
        ({"PatientOrientation": ["A", "F"]}, View.LATERAL, "PatientOrientation"),
        ({"PatientOrientation": ["L", "P"]}, View.UNKNOWN, ""),
        ({"PatientOrientation": "L"}, View.UNKNOWN, ""),
        ({"ViewPosition": "?"}, View.UNKNOWN, ""),
        ({"ViewCodeSequence": [Dataset()]}, View.UNKNOWN, ""),
        ({}, View.UNKNOWN, ""),
    ],
    ids=str,
)
def test_view_and_the_tag_that_gives_it(elements, view, keyword):
    assert find_view(dataset(**elements)) == (view, keyword)


def test_a_position_goes_before_a_code_and_a_code_before_an_orientation():
    first = dataset(ViewPosition="PA", ViewCodeSequence=coded("399348003"), PatientOrientation=["A", "F"])
    second = dataset(ViewPosition="", ViewCodeSequence=coded("399348003"), PatientOrientation=["A", "F"])

    assert find_view(first)[0] is View.PA
    assert find_view(second)[0] is View.AP
