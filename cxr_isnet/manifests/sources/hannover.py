"""COVID-19 Image Repository of Hannover Medical School (ml-workgroup): COVID-19 patients only.

Layout: the repository's, `data.csv` and reduced images in `png`. Ages are withheld by the publisher. Source: readme and
data.csv of ml-workgroup/covid-19-image-repository (sexes are `m` and `f`, views `ap` and `pa`).
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of


def _read(root: Path) -> Iterator[Record]:
    path = root / "data.csv"
    frame = read_table(path)
    require_columns(frame, path, ("patient_id", "image_id", "sex", "age", "projection"))
    for row in rows_of(frame):
        yield Record(
            root / "png" / f"{row['image_id']}.png",
            ("COVID-19 patient",),
            row["patient_id"],
            "Hannover Medical School, Germany",
            view=row["projection"],
            sex=row["sex"],
            age=years(row["age"]),
        )


SOURCE = PublishedSet(
    name="hannover",
    title="the COVID-19 Image Repository of Hannover Medical School",
    had_from="https://github.com/ml-workgroup/covid-19-image-repository",
    layout="""covid-19-image-repository/data.csv
covid-19-image-repository/png/<image_id>.png""",
    expects=("data.csv", "png"),
    labels=LabelMapping({"COVID-19 patient": Diagnosis.COVID}),
    licence="CC BY 3.0",
    citation="COVID-19 Image Repository, Hannover Medical School, "
    "https://github.com/ml-workgroup/covid-19-image-repository",
    read=_read,
)
