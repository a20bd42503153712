"""VinDr-CXR: 18,000 PA X-rays of two hospitals in Vietnam, labelled by radiologists, DICOM.

Layout: PhysioNet's. A training image has a row from each of three radiologists: what two or three mark holds, what one
marks alone is uncertain, so that an image on which they are divided has no class. A test image has one row. Which of
the two hospitals made an image is not published, nor is the patient: each image counts as one. Sex and age come from
the DICOM header. Source: Nguyen et al. 2022 and https://vindr.ai/datasets/cxr (views, readers); columns as public
readers use them.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns


def _read(root: Path) -> Iterator[Record]:
    for split in ("train", "test"):
        for image, votes in _votes(root / f"annotations/image_labels_{split}.csv"):
            share = votes.mean()
            yield Record(
                root / split / f"{image}.dicom",
                tuple(share.index[share > 0.5]),
                image,
                "Hospital 108 or Hanoi Medical University Hospital, Vietnam",
                tuple(share.index[(share > 0) & (share <= 0.5)]),
                view="PA",
                header=True,
                more={"official_split": split},
            )


def _votes(path: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Per image the readers' marks, 0 or 1, a column per finding."""
    frame = read_table(path)
    require_columns(frame, path, ("image_id", "No finding", "Pneumonia", "Tuberculosis"))
    findings = [column for column in frame.columns if column.lower() not in ("image_id", "rad_id")]
    try:
        marks = frame[findings].astype(float)
    except ValueError as error:
        raise InputError(f"{path}: a label is not 0 or 1: {error}. Copy the table anew") from error
    for image, rows in marks.groupby(frame["image_id"]):
        yield str(image), rows


SOURCE = PublishedSet(
    name="vindr_cxr",
    title="VinDr-CXR",
    had_from="https://physionet.org/content/vindr-cxr",
    layout="""annotations/image_labels_train.csv, annotations/image_labels_test.csv
train/<image_id>.dicom, test/<image_id>.dicom""",
    expects=("annotations/image_labels_train.csv", "annotations/image_labels_test.csv", "train|test"),
    labels=LabelMapping(
        {
            "No finding": Diagnosis.NORMAL,
            "Pneumonia": Diagnosis.OTHER_PNEUMONIA,
            "Tuberculosis": Diagnosis.TUBERCULOSIS,
        }
    ),
    licence="PhysioNet credentialed health data licence 1.5.0: not to be passed on",
    citation="Nguyen et al., VinDr-CXR: an open dataset of chest X-rays with radiologist's annotations, "
    "Scientific Data 9:429, 2022, doi:10.13026/3akn-b287",
    read=_read,
)
