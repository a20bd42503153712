"""File names and clinical readings of the two tuberculosis sets of the U.S. National Library of Medicine.

The last digit of a file name `<set>_<number>_<0 or 1>.png` is the label, 1 for tuberculosis. Its reading is a text file
of the same name: in Shenzhen a line as 'male 45yrs' (also 'femal 32yrs', 'male 16month'), in Montgomery lines as
"Patient's Sex: F" and "Patient's Age: 027Y"; the findings follow below.
"""

import re
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.demographics import sex, years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Diagnosis

LABELS = LabelMapping({"0": Diagnosis.NORMAL, "1": Diagnosis.TUBERCULOSIS})
LICENCE = "NLM research set: cite the papers, do not pass on"
CITATION = (
    "Jaeger et al., Two public chest X-ray datasets for computer-aided screening of pulmonary diseases, "
    "Quant Imaging Med Surg 4(6), 2014; Jaeger et al., IEEE Trans Med Imaging 33(2), 2014; "
    "Candemir et al., IEEE Trans Med Imaging 33(2), 2014"
)

_NAME = re.compile(r"(?P<patient>[A-Z]+_\d+)_(?P<label>\d)")
_SEX = re.compile(r"\b(femal|female|male)\b|Sex:\s*([FM])", re.IGNORECASE)
_AGE = re.compile(r"Age:\s*(\S+)|(\d+\s*(?:y|m|d)[a-z]*)", re.IGNORECASE)


def parse_name(image: Path) -> tuple[str, str]:
    """Patient id and label of an image, from its name.

    Raises:
        InputError: the name does not follow the publisher's pattern.
    """
    found = _NAME.fullmatch(image.stem)
    if found is None:
        raise InputError(f"{image}: the name is not like CHNCXR_0001_0 or MCUCXR_0001_0. Move other files elsewhere")
    return found["patient"], found["label"]


def parse_clinical_reading(text: str) -> tuple[str, float | None]:
    """Sex and age in years of a clinical reading, "" and None where missing."""
    sex_found, age_found = _SEX.search(text), _AGE.search(text)
    word = (sex_found[1] or sex_found[2]).lower() if sex_found else ""
    age = (age_found[1] or age_found[2]) if age_found else ""
    return sex("female" if word == "femal" else word), years(age)


def read_clinical_reading(image: Path) -> tuple[str, float | None]:
    """Sex and age in years from the reading beside the image's folder, "" and None where there is no such file."""
    path = image.parent.parent / "ClinicalReadings" / f"{image.stem}.txt"
    return parse_clinical_reading(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else ("", None)
