"""NIAID TB Portals: chest X-rays of tuberculosis patients of many countries, DICOM and CSV.

Layout: the table `TB_Portals_CXRs_<release>.csv` names each file in `series_instance_content_url`, relative to the
folder into which the image archives, 20 parts, were unpacked, together or a folder each (some put `GlobalBucket/` in
front). All patients have
tuberculosis, so the set has no other class. Only the country of a hospital is published. View, sex and age come from
the DICOM header; laterals are among the files, so an image without a view in its header is dropped. Images that the
publisher calls outliers (`cxr_outlier`) are dropped. Column names as public readers of the releases of 2023 to 2026 use
them; not checked against the publisher's data dictionary.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import only_match
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

_TABLE = "TB*Portals*CXRs_*[0-9].csv|*/TB*Portals*CXRs_*[0-9].csv"
_OUTLIER = "outlier by the publisher"


def _read(root: Path) -> Iterator[Record]:
    path = only_match(root, _TABLE)
    frame = read_table(path)
    require_columns(frame, path, ("series_instance_content_url", "patient_id", "country"))
    rows = list(rows_of(frame))
    patients = {row["patient_id"] for row in rows}
    folders = [folder for place in dict.fromkeys((root, path.parent)) for folder in _image_folders(place, patients)]
    for row in rows:
        name = row["series_instance_content_url"].replace("\\", "/")
        image = next((folder / name for folder in folders if (folder / name).is_file()), root / name)
        findings = ("tuberculosis patient", *([_OUTLIER] if row.get("cxr_outlier") == "outlier" else []))
        yield Record(
            image, findings, row["patient_id"], f"TB Portals, {row['country'] or 'country not published'}", header=True
        )


def _image_folders(root: Path, patients: set[str]) -> list[Path]:
    """Where archives may have been unpacked: a folder itself, and those in it that are no patient's."""
    unpacked = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and folder.name not in patients]
    return [place for folder in (root, *unpacked) for place in (folder, folder / "GlobalBucket")]


SOURCE = PublishedSet(
    name="tb_portals",
    title="NIAID TB Portals",
    had_from="https://tbportals.niaid.nih.gov",
    layout="""TB_Portals_CXRs_August_2023.csv
TB_Portals_Published_CXRs_August_2023/<patient>/<study>/<series>/<instance>.dcm""",
    expects=(_TABLE,),
    labels=LabelMapping({"tuberculosis patient": Diagnosis.TUBERCULOSIS}, excluding=frozenset({_OUTLIER})),
    licence="TB Portals data use agreement",
    citation="NIAID TB Portals Program, https://tbportals.niaid.nih.gov",
    read=_read,
)
