"""MIMIC-CXR-JPG: 377,110 X-rays of 227,827 studies, labels mined from reports.

Layout: PhysioNet's, the tables compressed or not. Labels are those of the CheXpert labeller, per study; views are per
image, and all but PA and AP are dropped, as are images of unknown view. Sex and age are not part of this set. An
uncertain pneumonia (-1) leaves an image without a class; a study called free of findings beside a finding, which
occurs, is dropped. Source: https://physionet.org/content/mimic-cxr-jpg/2.1.0; column names as in torchxrayvision's
reader.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.layout import only_match
from cxr_isnet.manifests.source_parsing.source import PublishedSet, Record
from cxr_isnet.manifests.sources.chexpert import LABELS, OBSERVATIONS, observed
from cxr_isnet.tables import read_table, require_columns, rows_of

_CHEXPERT, _METADATA, _SPLIT = (f"mimic-cxr-*-{table}.csv*" for table in ("chexpert", "metadata", "split"))


def _read(root: Path) -> Iterator[Record]:
    tables = {}
    for pattern, columns in (
        (_CHEXPERT, ("subject_id", "study_id", *OBSERVATIONS)),
        (_METADATA, ("dicom_id", "subject_id", "study_id", "ViewPosition")),
        (_SPLIT, ("dicom_id", "split")),
    ):
        path = only_match(root, pattern)
        tables[pattern] = read_table(path)
        require_columns(tables[pattern], path, columns)
    studies = {row["study_id"]: observed(row) for row in rows_of(tables[_CHEXPERT])}
    splits = dict(zip(tables[_SPLIT]["dicom_id"], tables[_SPLIT]["split"], strict=True))
    for row in rows_of(tables[_METADATA]):
        subject, study = row["subject_id"], row["study_id"]
        findings, uncertain = studies.get(study, ((), ()))
        yield Record(
            root / f"files/p{subject[:2]}/p{subject}/s{study}/{row['dicom_id']}.jpg",
            findings,
            subject,
            "Beth Israel Deaconess Medical Center, USA",
            uncertain,
            view=row["ViewPosition"],
            more={"official_split": splits.get(row["dicom_id"], "")},
        )


SOURCE = PublishedSet(
    name="mimic_cxr_jpg",
    title="MIMIC-CXR-JPG",
    had_from="https://physionet.org/content/mimic-cxr-jpg",
    layout="""mimic-cxr-2.0.0-chexpert.csv.gz, mimic-cxr-2.0.0-metadata.csv.gz, mimic-cxr-2.0.0-split.csv.gz
files/p10/p10000032/s50414267/<dicom_id>.jpg""",
    expects=(_CHEXPERT, _METADATA, _SPLIT, "files/p1*"),
    labels=LABELS,
    licence="PhysioNet credentialed access with a data use agreement",
    citation="Johnson et al., MIMIC-CXR-JPG, version 2.1.0, PhysioNet 2024, doi:10.13026/jsn5-t979; "
    "Johnson et al., arXiv:1901.07042",
    read=_read,
)
