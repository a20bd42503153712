from io import BytesIO

import pytest
from pydicom.dataset import Dataset

from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.rejection import RejectedFile
from tests.imaging.chest_files import BROKEN, SECRET, chest_bytes


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
    with pytest.raises(RejectedFile, match="not shown"):
        read(chest_bytes(Modality="Canary^Name of"))
