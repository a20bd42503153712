"""BrixIA: X-rays of COVID-19 patients of one hospital with a severity score for six zones, DICOM.

Layout: `metadata_global_v2.csv`, divided by semicolons, and `dicom_clean`. The label is the patient's, so a score of 0
(no abnormality seen) is covid too; the score is kept in the column `brixia_score`. Ages are published in groups of five
years and become the middle of their group. The view comes from the DICOM header; all images are PA or AP by the
publisher's word. Source: https://brixia.github.io (scheme of the table; it describes version 1 of it).
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import only_match
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

_TABLE = "metadata_global_v*.csv|data/metadata_global_v*.csv"
_FOLDER = "dicom_clean|*/dicom_clean"


def _read(root: Path) -> Iterator[Record]:
    path, images = only_match(root, _TABLE), only_match(root, _FOLDER)
    frame = read_table(path)
    require_columns(frame, path, ("Filename", "Subject", "Sex", "AgeAtStudyDateFiveYear", "BrixiaScoreGlobal"))
    for row in rows_of(frame):
        group = years(row["AgeAtStudyDateFiveYear"])
        yield Record(
            images / row["Filename"],
            ("COVID-19 patient",),
            row["Subject"],
            "ASST Spedali Civili, Brescia, Italy",
            sex=row["Sex"],
            age=None if group is None else 5 * group + 2,
            header=True,
            more={"brixia_score": row["BrixiaScoreGlobal"]},
        )


SOURCE = PublishedSet(
    name="brixia",
    title="the BrixIA COVID-19 data set",
    had_from="https://brixia.github.io",
    layout="""metadata_global_v2.csv
dicom_clean/<Filename>""",
    expects=(_TABLE, _FOLDER),
    labels=LabelMapping({"COVID-19 patient": Diagnosis.COVID}),
    licence="BrixIA research use agreement: not to be passed on, no derivatives",
    citation="Signoroni et al., BS-Net: learning COVID-19 pneumonia severity on a large chest X-ray dataset, "
    "Medical Image Analysis 2021, doi:10.1016/j.media.2021.102046",
    read=_read,
    keeps_unknown_view=True,
)
