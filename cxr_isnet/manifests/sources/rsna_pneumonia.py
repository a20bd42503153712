"""RSNA Pneumonia Detection Challenge (stage 2): X-rays of the NIH, read again by radiologists, DICOM.

Layout: the Kaggle archive. `patientId` names an image, not a patient, and stands in several rows if several boxes were
drawn; the class of an image is in the table of details. 'No Lung Opacity / Not Normal' has no class. The images are
part of NIH ChestX-ray14: with RSNA's file of mappings beside the tables, patients get the ids that `nih_chestxray14`
gives them, under the same site, so that a patient of both sets is identified as one; without it each image counts as a
patient. View, sex and age come from the DICOM header. Source: public readers of the archive and of the mappings
(`subset_img_id`, `img_id`).
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.rsna_readings import DETAILS, classes_by_image, nih_names
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.manifests.sources.nih_chestxray14 import CITATION, SITE, patient_of


def _read(root: Path) -> Iterator[Record]:
    names = nih_names(root)
    for name, classes in classes_by_image(root).items():
        patient = patient_of(names[name]) if name in names else name
        yield Record(root / "stage_2_train_images" / f"{name}.dcm", classes, patient, SITE, header=True)


SOURCE = PublishedSet(
    name="rsna_pneumonia",
    title="the RSNA Pneumonia Detection Challenge",
    had_from="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
    layout="""stage_2_detailed_class_info.csv
stage_2_train_images/<patientId>.dcm
pneumonia-challenge-dataset-mappings_2018.json   (if you have it)""",
    expects=(DETAILS, "stage_2_train_images/*.dcm"),
    labels=LabelMapping({"Normal": Diagnosis.NORMAL, "Lung Opacity": Diagnosis.OTHER_PNEUMONIA}),
    licence="terms of the challenge at https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
    citation=f"RSNA Pneumonia Detection Challenge, 2018; {CITATION}",
    read=_read,
    keeps_unknown_view=True,
)
