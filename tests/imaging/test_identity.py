"""Whatever text stands in whichever tag that is read, nothing of it comes out."""

import re
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_VR

from cxr_isnet import imaging
from cxr_isnet.imaging import INTAKE_RULES, AcceptanceConfig, RejectedFile
from cxr_isnet.imaging.dicom import read_radiograph
from tests.imaging.chest_files import SECRET, chest_dataset

_SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in Path(imaging.__file__).parent.glob("*.py"))
READ = sorted(set(re.findall(r'"([A-Z][A-Za-z]+)"', _SOURCES)))
"""Every word of the package's sources that may be a keyword."""
TEXTS = [name for name in READ if pydicom.datadict.tag_for_keyword(name) and dictionary_VR(name) in "CS LO SH LT UC"]


@pytest.mark.parametrize("width", ["900", "0"])
@pytest.mark.parametrize("keyword", TEXTS)
def test_no_text_of_a_tag_comes_out(keyword: str, width: str) -> None:
    dataset = chest_dataset(0, WindowCenter="1500", WindowWidth=width)
    with pydicom.config.disable_value_validation():
        setattr(dataset, keyword, f"{SECRET} 2")
        stream = BytesIO()
        dataset.save_as(stream, enforce_file_format=False)
    stream.seek(0)

    try:
        shown = repr(read_radiograph(stream, AcceptanceConfig(), INTAKE_RULES).provenance)
    except RejectedFile as rejected:
        shown = str(rejected)

    assert SECRET not in shown.upper()


def test_the_tags_that_decide_are_among_them() -> None:
    assert {"Modality", "BodyPartExamined", "VOILUTFunction", "PatientOrientation", "ShutterShape"} <= set(TEXTS)
