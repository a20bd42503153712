import io

import pydicom
import pytest
from pydicom.dataset import Dataset

from cxr_isnet.imaging.header import Header, open_header
from cxr_isnet.imaging.views import View, find_view
from tests.imaging.chest_files import chest_dataset


def coded(value, scheme="SCT"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "some view"
    return [item]


def dataset(**elements):
    file = Dataset()
    for keyword, value in elements.items():
        setattr(file, keyword, value)
    return Header(file)


def found(**elements):
    result = find_view(dataset(**elements))
    return result.view, result.keyword


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
        ({"ViewCodeSequence": coded("399173006")}, View.LATERAL, "ViewCodeSequence"),
        ({"ViewCodeSequence": coded("399135007")}, View.OTHER, "ViewCodeSequence"),
        ({"PatientOrientation": ["L", "F"]}, View.FRONTAL, "PatientOrientation"),
        ({"PatientOrientation": ["R", "F"]}, View.FRONTAL, "PatientOrientation"),
        ({"PatientOrientation": ["H", "L"]}, View.FRONTAL, "PatientOrientation"),
        ({"PatientOrientation": ["A", "F"]}, View.LATERAL, "PatientOrientation"),
        ({"PatientOrientation": ["F", "P"]}, View.LATERAL, "PatientOrientation"),
        ({"PatientOrientation": ["L", "P"]}, View.UNKNOWN, ""),
        ({"PatientOrientation": "L"}, View.UNKNOWN, ""),
        ({"ViewPosition": "?"}, View.UNKNOWN, ""),
        ({"ViewCodeSequence": [Dataset()]}, View.UNKNOWN, ""),
        ({}, View.UNKNOWN, ""),
    ],
    ids=str,
)
def test_view_and_the_tag_that_gives_it(elements, view, keyword):
    assert found(**elements) == (view, keyword)


@pytest.mark.parametrize("scheme", ["SRT", "SNM3", "99SDM", "srt"])
@pytest.mark.parametrize(
    ("code", "view"),
    [
        ("R-10206", View.AP),
        ("R-10214", View.PA),
        ("R-40888", View.PA),
        ("R-10202", View.FRONTAL),
        ("R-102CD", View.LATERAL),
        ("R-10232", View.LATERAL),
        ("R-10236", View.LATERAL),
        ("R-10224", View.LATERAL),
        ("R-10220", View.OTHER),
        ("R-10210", View.OTHER),
    ],
)
def test_retired_schemes_name_the_same_codes(scheme, code, view):
    """PS3.16, 8.3 and Annex O: SNM3, 99SDM and SRT are designators of SNOMED; CID 4010 (DX view)."""
    assert found(ViewCodeSequence=coded(code, scheme)) == (view, "ViewCodeSequence")


@pytest.mark.parametrize(("value", "scheme"), [("PA", "99ACME"), ("R-10206", "LN"), ("123456", "SCT"), ("R-1", "SRT")])
def test_an_unknown_scheme_or_code_is_unknown_unless_its_meaning_tells(value, scheme):
    unknown = find_view(dataset(ViewCodeSequence=coded(value, scheme)))
    told = coded(value, scheme)
    told[0].CodeMeaning = "Thorax p.a."

    assert (unknown.view, unknown.unread) == (View.UNKNOWN, "ViewCodeSequence")
    assert found(ViewCodeSequence=told) == (View.PA, "ViewCodeSequence")


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("p.a.", View.PA), ("P.A", View.PA), ("P/A", View.PA), ("A-P", View.AP), ("a. p.", View.AP),
        ("p.-a.", View.PA), ("DECUBITO SUPINO", View.UNKNOWN), ("decúbito supino AP", View.AP),
        ("decúbito dorsal AP", View.AP), ("DORSAL DECUBITUS", View.OTHER), ("LATERAL DECUBITUS SUPINE", View.OTHER),
        ("Profiel", View.LATERAL), ("sidebillede", View.LATERAL), ("sivu", View.LATERAL), ("Sagital", View.LATERAL),
        ("ChestLat", View.LATERAL), ("ThoraxPA", View.PA),
        ("pa stehend", View.PA),
        ("POSTERO-ANTERIOR", View.PA), ("postero anterior", View.PA), ("ANTEROPOSTERIOR", View.AP),
        ("dorso-ventral", View.PA),
        ("zadopřední", View.PA), ("tylno-przednia", View.PA), ("οπισθοπρόσθια", View.PA), ("передне-задняя", View.AP),
        ("AP/PA", View.FRONTAL), ("FACE", View.FRONTAL), ("FRENTE", View.FRONTAL), ("Frontale", View.FRONTAL),
        ("PERFIL", View.LATERAL), ("profil", View.LATERAL), ("seitlich", View.LATERAL), ("LAT.", View.LATERAL),
        ("latéral", View.LATERAL), ("latero-laterale", View.LATERAL), ("boczne", View.LATERAL),
        ("boční", View.LATERAL), ("bok", View.LATERAL), ("torace L.L.", View.LATERAL), ("l-l", View.LATERAL),
        ("oldalirányú", View.LATERAL), ("yan", View.LATERAL), ("боковая", View.LATERAL), ("πλάγια", View.LATERAL),
        ("OBLICUA", View.OTHER), ("schräg", View.OTHER), ("DECÚBITO LATERAL", View.OTHER),
        ("lordotic AP", View.OTHER),
        ("PA + LAT", View.UNKNOWN), ("bilateral", View.UNKNOWN), ("LATERALITY", View.UNKNOWN),
        ("STEHEND", View.UNKNOWN),
    ],
)  # fmt: skip
def test_words_of_the_languages_of_europe_and_latin_america(text, view):
    expected = (view, "ViewPosition") if view is not View.UNKNOWN else (View.UNKNOWN, "")
    assert found(ViewPosition=text, SpecificCharacterSet="ISO_IR 192") == expected


@pytest.mark.parametrize(
    ("text", "encoding", "charset"),
    [("боковая", "utf-8", "ISO_IR 192"), ("боковая", "utf-8", None), ("боковая", "iso8859_5", "ISO_IR 144"),
     ("latéral", "latin-1", "ISO_IR 100"), ("πλάγια", "iso8859_7", ["", "ISO 2022 IR 126"])],
)  # fmt: skip
def test_a_code_string_in_letters_that_the_standard_forbids_is_read_by_the_character_set(text, encoding, charset):
    """PS3.5, 6.2: CS holds capitals, digits, space and underscore; hospitals write it in their own letters."""
    file = chest_dataset(ViewPosition=text.encode(encoding).decode("latin-1"), SpecificCharacterSet=charset)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file, enforce_file_format=True)

    with open_header(stream) as header:
        assert find_view(header).view is View.LATERAL


@pytest.mark.parametrize(
    "text", ["CHEST LATERAL", "TORAX LAT.", "Thorax seitlich", "Rx tórax perfil", "thorax de profil"]
)
@pytest.mark.parametrize("keyword", ["SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"])
def test_a_lateral_told_by_a_description_of_the_series_only(text, keyword):
    assert found(**{keyword: text}) == (View.LATERAL, keyword)
    assert found(**{keyword: text, "PatientOrientation": ["L", "F"]}) == (View.LATERAL, keyword)


def test_the_description_of_a_study_tells_no_view_as_several_were_taken():
    assert found(StudyDescription="CHEST PA AND LATERAL") == (View.UNKNOWN, "")
    assert found(StudyDescription="CHEST LATERAL") == (View.UNKNOWN, "")


def test_words_that_are_not_known_are_told_from_no_words():
    assert find_view(dataset(ViewPosition="STEHEND")).unread == "ViewPosition"
    assert find_view(dataset()).unread == ""


def test_a_hospitals_own_words():
    header = dataset(ViewPosition="STEHEND", SeriesDescription="Aufnahme 2")

    assert find_view(header, frontal_words=("stehend",)).view is View.FRONTAL
    assert find_view(header, lateral_words=("aufnahme 2", "Stehend")).view is View.LATERAL


def test_a_position_goes_before_a_code_and_a_code_before_an_orientation():
    first = dataset(ViewPosition="PA", ViewCodeSequence=coded("399348003"), PatientOrientation=["A", "F"])
    second = dataset(ViewPosition="", ViewCodeSequence=coded("399348003"), PatientOrientation=["A", "F"])

    assert find_view(first).view is View.PA
    assert find_view(second).view is View.AP


@pytest.mark.parametrize(
    ("elements", "contradicted"),
    [
        ({"ViewPosition": "PA", "ViewCodeSequence": coded("399348003")}, "ViewCodeSequence"),
        ({"ViewPosition": "PA", "SeriesDescription": "CHEST LATERAL"}, "SeriesDescription"),
        ({"ViewPosition": "AP", "PatientOrientation": ["A", "F"]}, "PatientOrientation"),
        ({"ViewPosition": "PA", "ProtocolName": "Thorax ap liegend"}, "ProtocolName"),
        ({"ViewPosition": "PA", "SeriesDescription": "Chest frontal", "PatientOrientation": ["L", "F"]}, ""),
        ({"ViewPosition": "PA", "SeriesDescription": "CHEST PA/LAT"}, ""),
        ({"ViewPosition": "PA"}, ""),
    ],
    ids=str,
)
def test_a_tag_that_gives_another_view_is_told(elements, contradicted):
    assert find_view(dataset(**elements)).contradicted == contradicted
