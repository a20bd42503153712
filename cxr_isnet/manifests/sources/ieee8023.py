"""ieee8023 covid-chestxray-dataset: X-rays and CT from papers and web pages, many hospitals.

Layout: the repository's. `finding` is a path in a tree of diseases; 'Pneumonia' without a cause has no class. The
collection is one site: `location`, free text that differs between images of one patient, is kept as a column. Masks are
those of `annotations/lungVAE-masks`, made by a network, not by a person (`mask_source` says so). The licence is each
image's own. Source: the repository's README and SCHEMA, and `annotations/lungVAE-masks/README.md`.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

_COLUMNS = ("patientid", "sex", "age", "finding", "view", "modality", "location", "folder", "filename", "license")
_OTHER = (
    "Pneumonia/Bacterial",
    "Pneumonia/Fungal",
    "Pneumonia/Lipoid",
    "Pneumonia/Aspiration",
    "Pneumonia/Viral/SARS",
    "Pneumonia/Viral/MERS-CoV",
    "Pneumonia/Viral/Influenza",
    "Pneumonia/Viral/Varicella",
    "Pneumonia/Viral/Herpes",
)


def _read(root: Path) -> Iterator[Record]:
    path = root / "metadata.csv"
    frame = read_table(path)
    require_columns(frame, path, _COLUMNS)
    for row in rows_of(frame):
        image = root / row["folder"] / row["filename"]
        mask = root / "annotations" / "lungVAE-masks" / f"{image.stem}_mask.png"
        yield Record(
            image,
            (row["finding"],) if row["modality"] == "X-ray" else (f"modality {row['modality']}",),
            f"ieee8023-{row['patientid']}",
            "ieee8023 covid-chestxray",
            view=row["view"],
            sex=row["sex"],
            age=years(row["age"]),
            masks=(mask,) if mask.is_file() else (),
            licence=row["license"] or "not stated",
            more={"location": row["location"], "mask_source": "lungVAE" if mask.is_file() else ""},
        )


SOURCE = PublishedSet(
    name="ieee8023",
    title="ieee8023/covid-chestxray-dataset",
    had_from="https://github.com/ieee8023/covid-chestxray-dataset",
    layout="""covid-chestxray-dataset/metadata.csv
covid-chestxray-dataset/images/<filename>
covid-chestxray-dataset/annotations/lungVAE-masks/<filename without suffix>_mask.png""",
    expects=("metadata.csv", "images", "annotations"),
    labels=LabelMapping(
        {
            "Pneumonia/Viral/COVID-19": Diagnosis.COVID,
            **dict.fromkeys(_OTHER, Diagnosis.OTHER_PNEUMONIA),
            "Tuberculosis": Diagnosis.TUBERCULOSIS,
            "No Finding": Diagnosis.NORMAL,
        },
        hierarchy="/",
    ),
    licence="each image its own: column licence",
    citation="Cohen et al., COVID-19 image data collection: prospective predictions are the future, arXiv:2006.11988",
    read=_read,
)
