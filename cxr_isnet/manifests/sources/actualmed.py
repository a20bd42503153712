"""Actualmed COVID-19 chest X-rays, Spain: COVID-19 and no finding, many inconclusive.

Layout: the repository's. Images without a finding are inconclusive by their notes and have no class. Source:
metadata.csv and README of agchung/Actualmed-COVID-chestxray-dataset.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of


def _read(root: Path) -> Iterator[Record]:
    path = root / "metadata.csv"
    frame = read_table(path)
    require_columns(frame, path, ("patientid", "sex", "age", "finding", "view", "imagename"))
    for row in rows_of(frame):
        yield Record(
            root / "images" / row["imagename"],
            (row["finding"],),
            row["patientid"],
            "Actualmed, Spain",
            view=row["view"],
            sex=row["sex"],
            age=years(row["age"]),
        )


SOURCE = PublishedSet(
    name="actualmed",
    title="Actualmed-COVID-chestxray-dataset",
    had_from="https://github.com/agchung/Actualmed-COVID-chestxray-dataset",
    layout="""Actualmed-COVID-chestxray-dataset/metadata.csv
Actualmed-COVID-chestxray-dataset/images/<imagename>""",
    expects=("metadata.csv", "images"),
    labels=LabelMapping({"COVID-19": Diagnosis.COVID, "No finding": Diagnosis.NORMAL}),
    licence="research use only, by the repository's README",
    citation="https://github.com/agchung/Actualmed-COVID-chestxray-dataset",
    read=_read,
)
