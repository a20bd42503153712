"""RSNA Pneumonia Detection Challenge (stage 2): X-rays of the NIH, read again by radiologists, DICOM.

Layout: the Kaggle archive. `patientId` names an image, not a patient, and stands in several rows if several boxes were
drawn; the class of an image is in the table of details. 'No Lung Opacity / Not Normal' has no class. The images are
part of NIH ChestX-ray14: with RSNA's file of mappings beside the tables, patients get the ids that `nih_chestxray14`
gives them, under the same site, so that a patient of both sets is identified as one; without it each image counts as a
patient. View, sex and age come from the DICOM header. Source: public readers of the archive and of the mappings
(`subset_img_id`, `img_id`).
"""

import json
from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import first_match
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.manifests.sources.nih_chestxray14 import CITATION, SITE, patient_of
from cxr_isnet.tables import read_table, require_columns

_DETAILS = "stage_2_detailed_class_info.csv"
_MAPPINGS = "*mappings_2018*.json"


def _read(root: Path) -> Iterator[Record]:
    path = root / _DETAILS
    frame = read_table(path)
    require_columns(frame, path, ("patientId", "class"))
    patients = _patients(first_match(root, _MAPPINGS))
    for name, classes in frame.groupby("patientId")["class"]:
        yield Record(
            root / "stage_2_train_images" / f"{name}.dcm",
            tuple(sorted(set(classes))),
            patients.get(str(name), str(name)),
            SITE,
            header=True,
        )


def _patients(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        return {row["subset_img_id"]: patient_of(row["img_id"]) for row in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not RSNA's list of mappings: {error!r}. Copy it anew, or remove it") from error


SOURCE = PublishedSet(
    name="rsna_pneumonia",
    title="the RSNA Pneumonia Detection Challenge",
    layout="""stage_2_detailed_class_info.csv
stage_2_train_images/<patientId>.dcm
pneumonia-challenge-dataset-mappings_2018.json   (if you have it)""",
    expects=(_DETAILS, "stage_2_train_images/*.dcm"),
    labels=LabelMapping({"Normal": Diagnosis.NORMAL, "Lung Opacity": Diagnosis.OTHER_PNEUMONIA}),
    licence="terms of the challenge at https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
    citation=f"RSNA Pneumonia Detection Challenge, 2018; {CITATION}",
    read=_read,
    keeps_unknown_view=True,
)
