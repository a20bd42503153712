"""CheXpert, Stanford: 224,316 X-rays of 65,240 patients, labels mined from reports.

Layout: `train.csv` and `valid.csv` name images as `CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg`,
the first part being the unpacked folder. Laterals are dropped. An uncertain pneumonia (-1) leaves an image without a
class. Source: Irvin et al. 2019; column names as in torchxrayvision's reader of the set.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""Columns of the CheXpert labeller, which MIMIC-CXR-JPG uses too: 1 present, 0 absent, -1 uncertain, empty not
mentioned."""

LABELS = LabelMapping(
    {"No Finding": Diagnosis.NORMAL, "Pneumonia": Diagnosis.OTHER_PNEUMONIA}, ignored=frozenset({"Support Devices"})
)


def observed(row: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The observations that are present in a row of the labeller's table, and those that are uncertain."""
    holds = tuple(name for name in OBSERVATIONS if row[name] == "1")
    return holds, tuple(name for name in OBSERVATIONS if row[name] == "-1")


def _read(root: Path) -> Iterator[Record]:
    for split in ("train", "valid"):
        path = root / f"{split}.csv"
        frame = read_table(path)
        require_columns(frame, path, ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS))
        for row in rows_of(frame):
            image = root / row["Path"].partition("/")[2]
            findings, uncertain = observed(row)
            yield Record(
                image,
                findings,
                image.parts[-3],
                "Stanford Hospital, USA",
                uncertain,
                view=row["AP/PA"] if row["Frontal/Lateral"] == "Frontal" else row["Frontal/Lateral"],
                sex=row["Sex"],
                age=years(row["Age"]),
                more={"official_split": split},
            )


SOURCE = PublishedSet(
    name="chexpert",
    title="CheXpert",
    layout="""CheXpert-v1.0-small/train.csv, valid.csv   (or CheXpert-v1.0)
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg""",
    expects=("train.csv", "valid.csv", "train/patient*|valid/patient*"),
    labels=LABELS,
    licence="Stanford research use agreement",
    citation="Irvin et al., CheXpert: a large chest radiograph dataset with uncertainty labels and expert "
    "comparison, AAAI 2019",
    read=_read,
)
