"""CheXpert, Stanford: 224,316 X-rays of 65,240 patients, labels mined from reports.

Layout: `train.csv` and `valid.csv` name images as `CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg`,
the first part being the unpacked folder. The full size comes in four archives, `CheXpert-v1.0 batch 1 (validate & csv)`
with the tables and `valid/`, and `CheXpert-v1.0 batch 2 (train 1)`, `3 (train 2)`, `4 (train 3)` with the patients of
`train/`. Laterals are dropped. An uncertain pneumonia (-1) leaves an image without a class. Source: Irvin et al. 2019;
column names as in torchxrayvision's reader of the set, names of the archives as public readers of it list them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import matches, only_match
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


_PATH = r"[^/]+/(?:train|valid)/[^/]+/[^/]+/[^/]+"


def observed(row: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The observations that are present in a row of the labeller's table, and those that are uncertain."""
    holds = tuple(name for name in OBSERVATIONS if row[name] == "1")
    return holds, tuple(name for name in OBSERVATIONS if row[name] == "-1")


def _read(root: Path) -> Iterator[Record]:
    batches = _patients_in_batches(root)
    for split in ("train", "valid"):
        path = only_match(root, _tables(split))
        frame = read_table(path)
        require_columns(frame, path, ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS))
        wrong = frame.index[~frame["Path"].str.fullmatch(_PATH)]
        if len(wrong):
            raise InputError(
                f"{path}: column 'Path', row {wrong[0]} is not as CheXpert-v1.0/train/patient00001/study1/"
                "view1_frontal.jpg. Give the table as its publisher ships it"
            )
        for row in rows_of(frame):
            inside = Path(row["Path"].partition("/")[2])  # train/patient00001/study1/view1_frontal.jpg
            image = path.parent / inside
            if split == "train" and inside.parts[1] in batches:
                image = batches[inside.parts[1]].joinpath(*inside.parts[1:])
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


def _tables(split: str) -> str:
    return f"{split}.csv|CheXpert-v1.0 batch 1*/{split}.csv"


def _patients_in_batches(root: Path) -> dict[str, Path]:
    """Folder of each patient that lies in an archive of the full size, which has no folder `train`."""
    return {path.name: path.parent for path in matches(root, "CheXpert-v1.0 batch [234]*/patient*")}


SOURCE = PublishedSet(
    name="chexpert",
    title="CheXpert",
    had_from="https://stanfordmlgroup.github.io/competitions/chexpert",
    layout="""CheXpert-v1.0-small/train.csv, valid.csv   (or CheXpert-v1.0)
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg
or, side by side, the four archives of the full size:
CheXpert-v1.0 batch 1 (validate & csv)/train.csv, valid.csv, valid/patient64541/study1/view1_frontal.jpg
CheXpert-v1.0 batch 2 (train 1)/patient00001/study1/view1_frontal.jpg   (and batch 3, batch 4)""",
    expects=(_tables("train"), _tables("valid"), "train/patient*|valid/patient*|CheXpert-v1.0 batch */patient*"),
    labels=LABELS,
    licence="Stanford research use agreement",
    citation="Irvin et al., CheXpert: a large chest radiograph dataset with uncertainty labels and expert "
    "comparison, AAAI 2019",
    read=_read,
)
