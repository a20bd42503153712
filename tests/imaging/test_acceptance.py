from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from cxr_isnet.imaging import read_image
from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.rejection import RejectedFile
from tests.imaging.chest_files import BROKEN, SECRET, chest_bytes, chest_dataset, chest_pixels, write_chest


def read(content, **criteria):
    return read_radiograph(BytesIO(content), AcceptanceConfig(**criteria), INTAKE_RULES).provenance


def region(value, scheme):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "some region"
    return [item]


@pytest.mark.parametrize("kind", BROKEN)
def test_unacceptable_files_are_rejected_with_the_reason_and_without_identity(kind):
    content, reason = BROKEN[kind]

    with pytest.raises(RejectedFile) as rejected:
        read(content)

    assert rejected.value.reason.value == reason
    assert SECRET not in str(rejected.value)


@pytest.mark.parametrize(
    "elements",
    [
        {"BodyPartExamined": "PORT CHEST"},
        {"BodyPartExamined": "THORAX"},
        {"BodyPartExamined": "", "AnatomicRegionSequence": region("816094009", "SCT")},
        {"BodyPartExamined": None, "AnatomicRegionSequence": region("T-D3000", "SRT")},
        {"BodyPartExamined": None, "AnatomicRegionSequence": region("51185008", "SCT")},
    ],
    ids=str,
)
def test_tags_that_say_chest(elements):
    assert read(chest_bytes(**elements)).assumed == ()


def test_chest_by_description_is_assumed_and_the_description_is_not_repeated():
    assert read(chest_bytes(BodyPartExamined="")).assumed == ("chest, by StudyDescription",)


def test_unknown_body_part_and_view_are_accepted_and_flagged():
    record = read(chest_bytes(BodyPartExamined=None, StudyDescription=None, ViewPosition=None))

    assert {flag.value for flag in record.flags} == {"unknown_body_part", "unknown_view"}
    assert record.view == "unknown"


def test_sequences_of_no_code_name_neither_part_nor_view():
    record = read(
        chest_bytes(
            BodyPartExamined=None,
            StudyDescription=None,
            ViewPosition=None,
            AnatomicRegionSequence=[],
            ViewCodeSequence=[],
        )
    )

    assert record.assumed == ("chest: no tag names the body part", "frontal: no tag names the view")


def test_a_region_that_is_not_the_chest_is_rejected():
    with pytest.raises(RejectedFile, match="AnatomicRegionSequence"):
        read(chest_bytes(BodyPartExamined=None, AnatomicRegionSequence=region("56459004", "SCT")))


def test_criteria_can_be_relaxed():
    assert read(chest_bytes(ViewPosition="LL"), other_views=True).view == "lateral"
    assert read(chest_bytes(BurnedInAnnotation="YES"), burned_in=True).view == "PA"
    assert read(chest_bytes(Modality="RF"), modalities=("RF",)).modality == "RF"


def test_raw_detector_data_is_known_by_its_sop_class_too():
    with pytest.raises(RejectedFile, match="FOR PROCESSING"):
        read(chest_bytes(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1.1"))


def test_secondary_capture_is_flagged():
    record = read(chest_bytes(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))

    assert [flag.value for flag in record.flags] == ["secondary_capture"]


def test_free_text_in_a_code_is_not_repeated():
    with pytest.raises(RejectedFile, match=r"Modality \(0008,0060\) is 'other'"):
        read(chest_bytes(Modality="Canary^Name of"))


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": "MRN4711"},
        {"BodyPartExamined": "KNEE MRN4711"},
        {"BodyPartExamined": None, "AnatomicRegionSequence": region("56459004 MRN4711", "SCT")},
        {"PhotometricInterpretation": "MRN4711"},
        {"BodyPartExamined": None, "SeriesDescription": "knee MRN4711"},
        {"ViewPosition": "LL MRN4711"},
    ],
    ids=str,
)
def test_a_value_outside_of_the_closed_sets_is_never_quoted(elements):
    """PS3.5, 6.2: a code string is any 16 capitals; PS3.15, Annex E."""
    try:
        text = str(read(chest_bytes(**elements)))
    except RejectedFile as rejected:
        text = str(rejected)

    assert "4711" not in text


def flags_of(record):
    return {flag.value for flag in record.flags}


CHEST_WORDS = [
    "TORAX", "TÓRAX", "TORACE", "THORAX PA", "CHEST_PORT", "PULMON", "Pulmões", "poumons", "Lunge", "BRUSTKORB",
    "borstkas",
    "klatka piersiowa", "hrudník", "mellkas", "plíce", "pljuča", "grudni kos", "lungor", "brystkasse", "keuhkot",
    "akciğer",
    "göğüs", "rindkere", "plaušas", "ΘΩΡΑΚΑΣ", "грудная клетка", "лёгкие", "PARRILLA COSTAL", "RX TORAX",
    "HEMITHORAX", "costilla derecha", "côtes",
]  # fmt: skip


@pytest.mark.parametrize("text", CHEST_WORDS)
def test_the_chest_in_the_languages_of_europe_and_latin_america(text):
    utf8 = {"SpecificCharacterSet": "ISO_IR 192", "StudyDescription": None}

    by_description = read(chest_bytes(BodyPartExamined=None, SeriesDescription=text, **utf8))

    assert by_description.assumed == ("chest, by SeriesDescription",)
    as_written = text.upper().encode().decode("latin-1")
    by_tag = read(chest_bytes(BodyPartExamined=as_written, **utf8))
    assert (by_tag.assumed, by_tag.body_part) == ((), "CHEST")


OTHER_PARTS = [
    "HAND", "ABDOMEN", "UPPER EXTREMITY", "Knie", "Kniegelenk links", "MANO DERECHA", "columna lumbar",
    "THORACIC SPINE",
    "BWS", "columna torácica", "rachis thoracique", "genou", "koleno", "ΓΟΝΑΤΟ", "коленный сустав", "SKULL",
    "miednica",
    "rodilla", "joelho", "ginocchio", "Becken", "pelvis ap", "schouder", "mammography", "FACIAL BONES",
    "Hände", "OPG", "Esophagus", "Ösophagus", "CUELLO", "collo",
]  # fmt: skip


@pytest.mark.parametrize("text", OTHER_PARTS)
def test_other_parts_named_by_a_description_only_are_rejected(text):
    elements = {"BodyPartExamined": None, "StudyDescription": None, "SpecificCharacterSet": "ISO_IR 192"}

    with pytest.raises(RejectedFile) as rejected:
        read(chest_bytes(SeriesDescription=text, **elements))

    assert rejected.value.reason.value == "body_part"


@pytest.mark.parametrize("text", ["Chest after foot surgery", "TORAX DE PIE", "Thorax, Hand als Marker"])
def test_a_description_that_names_the_chest_too_is_of_the_chest(text):
    assert read(chest_bytes(BodyPartExamined=None, StudyDescription=None, SeriesDescription=text)).assumed == (
        "chest, by SeriesDescription",
    )


def test_the_description_of_the_series_goes_before_that_of_the_study():
    with pytest.raises(RejectedFile, match="SeriesDescription names another part"):
        read(chest_bytes(BodyPartExamined=None, StudyDescription="chest and hand", SeriesDescription="hand"))


@pytest.mark.parametrize(
    "elements",
    [
        {"BodyPartExamined": "CHEST", "SeriesDescription": "HAND PA"},
        {"BodyPartExamined": "CHEST", "StudyDescription": "Abdomen"},
        {"ViewPosition": "PA", "SeriesDescription": "CHEST LATERAL"},
        {"ViewPosition": "AP", "ViewCodeSequence": region("272479007", "SCT")},
        {"BodyPartExamined": "CHEST", "AnatomicRegionSequence": region("T-D8700", "SRT")},
    ],
    ids=str,
)
def test_tags_that_contradict_each_other_are_flagged(elements):
    assert "contradiction" in flags_of(read(chest_bytes(**elements)))


@pytest.mark.parametrize(
    "elements",
    [
        {"BodyPartExamined": "RX7"},
        {"BodyPartExamined": None, "AnatomicRegionSequence": region("T-D3000", "99ACME")},
        {"BodyPartExamined": None, "AnatomicRegionSequence": region("1", "SCT")},
    ],
    ids=str,
)
def test_a_part_that_is_not_known_is_unknown_and_flagged(elements):
    record = read(chest_bytes(StudyDescription=None, **elements))

    assert flags_of(record) == {"unknown_body_part"}
    assert "chest: the tag names a part that is not known" in record.assumed


@pytest.mark.parametrize("scheme", ["SRT", "SNM3", "99SDM"])
def test_retired_schemes_name_the_same_regions(scheme):
    assert read(chest_bytes(BodyPartExamined=None, AnatomicRegionSequence=region("T-D3000", scheme))).assumed == ()
    with pytest.raises(RejectedFile, match="another part"):
        read(chest_bytes(BodyPartExamined=None, AnatomicRegionSequence=region("T-D8700", scheme)))  # hand


def test_a_hospitals_own_words():
    own = {"chest_words": ("RX7",), "frontal_words": ("STEHEND",), "lateral_words": ("QUER",)}

    record = read(chest_bytes(BodyPartExamined="RX7", ViewPosition="STEHEND", StudyDescription=None), **own)

    assert (record.body_part, record.view, record.flags) == ("CHEST", "frontal", ())
    with pytest.raises(RejectedFile, match="lateral"):
        read(chest_bytes(ViewPosition="QUER"), **own)


def test_a_view_in_words_that_are_not_known_is_told_from_none():
    assert "frontal: ViewPosition gives one that is not known" in read(chest_bytes(ViewPosition="STEHEND")).assumed


def test_without_modality_the_sop_class_tells_or_the_setting_accepts_it():
    capture = "1.2.840.10008.5.1.4.1.1.7"

    assert "projection radiograph, by SOPClassUID" in read(chest_bytes(Modality=None)).assumed
    with pytest.raises(RejectedFile, match=r"Modality \(0008,0060\) is ''"):
        read(chest_bytes(Modality=None, SOPClassUID=capture))
    assert read(chest_bytes(Modality="", SOPClassUID=capture), modalities=("CR", "")).modality == ""


@pytest.mark.parametrize("sides", [(1, 1), (31, 64), (64, 1)])
def test_an_image_of_a_few_pixels_is_rejected(sides):
    with pytest.raises(RejectedFile, match="at least 32 are needed"):
        read(chest_bytes(pixels=np.ones(sides, np.uint16)))


VINDR_KEPT = (
    "SpecificCharacterSet", "PatientSex", "PatientAge", "Rows", "Columns", "PixelSpacing", "BitsAllocated",
    "BitsStored",
    "HighBit", "PixelRepresentation", "PhotometricInterpretation", "SamplesPerPixel", "WindowCenter", "WindowWidth",
    "RescaleIntercept", "RescaleSlope", "LossyImageCompression", "PixelData",
)  # fmt: skip
"""Elements that VinDr-CXR's de-identification leaves, of those in these files: no Modality, no SOPClassUID."""


def test_a_file_that_a_manifest_names_needs_only_what_rendering_needs(tmp_path):
    whole = chest_dataset()
    bare = pydicom.Dataset()
    for keyword in VINDR_KEPT:
        if keyword in whole:
            bare[keyword] = whole[keyword]
    bare.file_meta = whole.file_meta
    bare.save_as(tmp_path / "a.dicom", enforce_file_format=False)

    np.testing.assert_allclose(read_image(tmp_path / "a.dicom"), chest_pixels(64) / 4095, atol=1e-6)


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": modality} for modality in (None, "", "OT", "RG", "RF", "XR", "SC", "PX")
    ] + [{"BodyPartExamined": "FOOT"}, {"ViewPosition": "LL"}, {"PatientID": None}, {"BurnedInAnnotation": "YES"}],
    ids=str,
)  # fmt: skip
def test_a_manifest_may_name_what_intake_would_not_take(elements, tmp_path):
    np.testing.assert_allclose(
        read_image(write_chest(tmp_path / "a.dcm", **elements)), chest_pixels(64) / 4095, atol=1e-6
    )


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "SR", "PR"])
def test_a_manifest_may_not_name_what_is_no_projection_radiograph(modality, tmp_path):
    with pytest.raises(RejectedFile, match="no projection radiograph"):
        read_image(write_chest(tmp_path / "a.dcm", Modality=modality))


@pytest.mark.parametrize("text", ["MONOCHROME 1", "monochrome-1", "MONOCHROME1 "])
def test_a_photometric_interpretation_as_people_spell_it(text, tmp_path):
    image = read_image(write_chest(tmp_path / "a.dcm", PhotometricInterpretation=text))

    np.testing.assert_allclose(image, 1 - chest_pixels(64) / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("elements", "remedy"),
    [
        ({"PhotometricInterpretation": "GREY"}, "Correct it to MONOCHROME1 or MONOCHROME2"),
        ({"PhotometricInterpretation": "RGB"}, "Correct it to MONOCHROME1 or MONOCHROME2"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "Export the grey image"),
        ({"PhotometricInterpretation": "HSV", "SamplesPerPixel": 3}, "Export the grey image"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422", "SamplesPerPixel": 3}, "Export the grey image"),
    ],
    ids=str,
)
def test_the_remedy_of_an_unsupported_photometric_interpretation_can_help(elements, remedy):
    with pytest.raises(RejectedFile, match=remedy) as rejected:
        read(chest_bytes(**elements))

    assert rejected.value.reason.value == "colour"
