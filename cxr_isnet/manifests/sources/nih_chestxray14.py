"""NIH ChestX-ray14: 112,120 frontal X-rays of 30,805 patients, labels mined from reports.

Layout: `Data_Entry_2017.csv` (the later release `_v2020` calls `Patient Gender` `Patient Sex`) and the images of the
twelve archives. The patient is the first eight digits of a file's name. Some ages are impossible and left empty. The
publisher's split by patient goes to the column `official_split`. RSNA's radiologists read a part of the images again:
where the tables of its challenge lie beside, the column `note` is `called_normal_by_rsna` for a pneumonia that they
call normal. Source: the publisher's table, as quoted in public readers of it.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import by_name, matches, only_match
from cxr_isnet.manifests.source_parsing.rsna_readings import called_normal
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

SITE = "NIH Clinical Center, USA"
CALLED_NORMAL = "called_normal_by_rsna"
CITATION = "Wang et al., ChestX-ray8, CVPR 2017 (arXiv:1705.02315)"
_TABLE = "Data_Entry_2017*.csv"
_IMAGES = "images/*.png|images_*/*.png|images_*/images/*.png|images/images_*/*.png|images/images_*/images/*.png"


def patient_of(name: str) -> str:
    """Patient id of an NIH file name, `00000001_000.png`; other sets made from these images use it too."""
    return f"nih-{name[:8]}"


def _read(root: Path) -> Iterator[Record]:
    path = only_match(root, _TABLE)
    frame = read_table(path)
    require_columns(frame, path, ("Image Index", "Finding Labels", "Patient Age", "View Position"))
    images = by_name(matches(root, _IMAGES))
    splits, normal = _splits(root), called_normal(root)
    for row in rows_of(frame):
        name, findings = row["Image Index"], tuple(row["Finding Labels"].split("|"))
        note = CALLED_NORMAL if "Pneumonia" in findings and name in normal else ""
        yield Record(
            images.get(name, root / "images" / name),
            findings,
            patient_of(name),
            SITE,
            view=row["View Position"],
            sex=row.get("Patient Gender") or row.get("Patient Sex", ""),
            age=years(row["Patient Age"]),
            more={"official_split": splits.get(name, ""), "note": note},
        )


def _splits(root: Path) -> dict[str, str]:
    lists = {"train_val": root / "train_val_list.txt", "test": root / "test_list.txt"}
    return {
        name: split
        for split, path in lists.items()
        if path.is_file()
        for name in path.read_text(encoding="utf-8").split()
    }


SOURCE = PublishedSet(
    name="nih_chestxray14",
    title="NIH ChestX-ray14",
    had_from="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    layout="""Data_Entry_2017.csv   (or Data_Entry_2017_v2020.csv)
images/00000001_000.png   (or images_001/images/00000001_000.png)
train_val_list.txt, test_list.txt   (if you have them)
stage_2_detailed_class_info.csv, pneumonia-challenge-dataset-mappings_2018.json   (RSNA's, if you have them)""",
    expects=(_TABLE, _IMAGES),
    labels=LabelMapping({"No Finding": Diagnosis.NORMAL, "Pneumonia": Diagnosis.OTHER_PNEUMONIA}),
    licence="NIH: no restriction on use, cite",
    citation=CITATION,
    read=_read,
    keeps_unknown_view=True,
)
