"""PadChest: 160,000 X-rays of 67,000 patients of one hospital; 27% of the reports labelled by hand, the rest by a
network.

Layout: the archives 0 to 54 unpacked into folders of these names (`ImageDir`), 16-bit PNG. `Labels` is a list in
Python's spelling. Frontal is PA, AP or AP_horizontal (supine). Years are study year minus birth year, so up to one too
many. Labels 'exclude' and 'suboptimal study' drop an image. Source: Bustos et al. 2020; the publisher's list of columns
as quoted in public readers of the set.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import only_match
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

_TABLE = "PADCHEST_chest_x_ray_images_labels_160K*.csv*"
_LABEL = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_COLUMNS = (
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Labels",
)


def _read(root: Path) -> Iterator[Record]:
    path = only_match(root, _TABLE)
    frame = read_table(path)
    require_columns(frame, path, _COLUMNS)
    for row in rows_of(frame):
        yield Record(
            root / row["ImageDir"] / row["ImageID"],
            tuple((single or double).strip() for single, double in _LABEL.findall(row["Labels"])),
            row["PatientID"],
            "Hospital San Juan, Alicante, Spain",
            view="" if row["Projection"] == "UNK" else row["Projection"],
            sex=row["PatientSex_DICOM"],
            age=_age(row["StudyDate_DICOM"], row["PatientBirth"]),
        )


def _age(study_date: str, birth_year: str) -> float | None:
    study, birth = years(study_date[:4]), years(birth_year)
    return None if study is None or birth is None else study - birth


SOURCE = PublishedSet(
    name="padchest",
    title="PadChest",
    layout="""PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv
0/<ImageID>.png ... 54/<ImageID>.png""",
    expects=(_TABLE, "[0-9]/*.png|[0-9][0-9]/*.png"),
    labels=LabelMapping(
        {
            "normal": Diagnosis.NORMAL,
            "pneumonia": Diagnosis.OTHER_PNEUMONIA,
            "atypical pneumonia": Diagnosis.OTHER_PNEUMONIA,
            "tuberculosis": Diagnosis.TUBERCULOSIS,
        },
        ignored=frozenset({"unchanged"}),
        excluding=frozenset({"exclude", "suboptimal study"}),
    ),
    licence="BIMCV: research use, terms at http://bimcv.cipf.es/bimcv-projects/padchest",
    citation="Bustos et al., PadChest: a large chest x-ray image dataset with multi-label annotated reports, "
    "Medical Image Analysis 66:101797, 2020",
    read=_read,
)
