"""Layouts, file names and clinical readings of the two tuberculosis sets of the U.S. National Library of Medicine.

Images lie in `CXR_png`, readings in `ClinicalReadings` beside it; so too in Kaggle's "Chest Xray Masks and Labels",
which mixes both sets and holds lung masks in `masks`. Kaggle's copies of the single sets have `images/images` and a
table of readings, `shenzhen_metadata.csv` or `montgomery_metadata.csv`. The last digit of a file name
`<set>_<number>_<0 or 1>.png` is the label, 1 for tuberculosis. Its reading is a text file of the same name: in Shenzhen
a line as 'male 45yrs' (also 'femal 32yrs', 'male 16month'), in Montgomery lines as "Patient's Sex: F" and "Patient's
Age: 027Y"; the findings follow below.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import sex
from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import matches
from cxr_isnet.manifests.source_parsing.source import Diagnosis, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

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


def images_of(prefix: str) -> str:
    """Pattern of a set's images, whose names begin with `CHNCXR` or `MCUCXR`."""
    return "|".join(f"{folder}/{prefix}_*_[01].png" for folder in ("CXR_png", "images", "images/images"))


def read_set(root: Path, prefix: str, site: str, masks_of: Callable[[Path], tuple[Path, ...]]) -> Iterator[Record]:
    """The records of a set; of a reading without an image too, which counts as missing.

    Args:
        root: folder of the set.
        prefix: of its file names, `CHNCXR` or `MCUCXR`.
        site: hospital that made the images.
        masks_of: image to its lung masks.
    """
    tables = list(matches(root, "shenzhen_metadata.csv" if prefix == "CHNCXR" else "montgomery_metadata.csv"))
    readings = _metadata(tables[0]) if tables else {}
    images = list(matches(root, images_of(prefix)))
    read = {*readings, *(path.stem for path in matches(root, f"ClinicalReadings/{prefix}_*_[01].txt"))}
    missing = sorted(read - {image.stem for image in images})
    for image in (*images, *(images[0].with_name(f"{name}.png") for name in missing)):
        patient, label = parse_name(image)
        reading = readings.get(image.stem) or read_clinical_reading(image)
        yield Record(image, (label,), patient, site, view="PA", sex=reading[0], age=reading[1], masks=masks_of(image))


def _metadata(path: Path) -> dict[str, tuple[str, float | None]]:
    """Sex and age by image of a table of readings."""
    frame = read_table(path)
    require_columns(frame, path, ("study_id", "sex", "age"))
    return {Path(row["study_id"]).stem: (sex(row["sex"]), years(row["age"])) for row in rows_of(frame)}


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
