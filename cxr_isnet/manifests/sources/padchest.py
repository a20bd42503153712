"""PadChest: 160,000 X-rays of 67,000 patients of one hospital; 27% of the reports labelled by hand, the rest by a
network.

Layout: the archives 0 to 54 unpacked into folders of these names (`ImageDir`), or all images in `images`; 16-bit PNG.
The publisher does not say how the pictures were made of the DICOM files, so a sample of them is looked at (`_look_at`):
pictures that use fewer bits are stored values, rendered by the table's `_DICOM` columns; pictures of MONOCHROME1 files
that are negatives for the most part are turned over; others are taken as they are. `Labels` is a list in Python's
spelling. Frontal is PA, AP or AP_horizontal (supine). Years are study year minus birth year, so up to one too many.
Labels 'exclude' and 'suboptimal study' drop an image. Source: Bustos et al. 2020; the publisher's list of columns as
quoted in public readers of the set.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import Header, Radiograph, read_raw_picture
from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError, LabelMapping
from cxr_isnet.manifests.source_parsing.layout import only_match
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

logger = logging.getLogger(__name__)

_TABLE = "PADCHEST_chest_x_ray_images_labels_160K*.csv*"
_SAMPLE = 100
"""Pictures of each photometric interpretation that are looked at before all are read."""

_LABEL = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_COLUMNS = (
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Labels",
)


def _read(root: Path) -> Iterator[Record]:
    path = only_match(root, _TABLE)
    frame = read_table(path)
    require_columns(frame, path, _COLUMNS)
    rows = list(rows_of(frame))
    encoding = _look_at(root, rows)
    for row in rows:
        image = _image(root, row)
        yield Record(
            image,
            tuple((single or double).strip() for single, double in _LABEL.findall(row["Labels"])),
            row["PatientID"],
            "Hospital San Juan, Alicante, Spain",
            view="" if row["Projection"] == "UNK" else row["Projection"],
            sex=row["PatientSex_DICOM"],
            age=_age(row["StudyDate_DICOM"], row["PatientBirth"]),
            render=partial(_render, image, row, encoding) if encoding.concerns(row) else None,
        )


def _image(root: Path, row: Mapping[str, str]) -> Path:
    in_archive, flat = root / row["ImageDir"] / row["ImageID"], root / "images" / row["ImageID"]
    return in_archive if in_archive.is_file() or not flat.is_file() else flat


@dataclass(frozen=True)
class _Encoding:
    """What a sample of the pictures shows: whether some are stored values, and those of MONOCHROME1 negatives."""

    stored_values: bool
    negatives: bool

    def concerns(self, row: Mapping[str, str]) -> bool:
        return self.stored_values or (self.negatives and _photometric(row) == "MONOCHROME1")


def _look_at(root: Path, rows: Sequence[Mapping[str, str]]) -> _Encoding:
    sample, stored, scores = Counter[str](), 0, []
    for row in rows[:: max(1, len(rows) // (20 * _SAMPLE))]:
        if sample[_photometric(row)] < _SAMPLE and (image := _image(root, row)).is_file():
            try:
                radiograph = read_raw_picture(image, _tags("MONOCHROME2"))
            except InputError:
                continue
            sample[_photometric(row)] += 1
            stored += _holds_stored_values(radiograph, row)
            if _photometric(row) == "MONOCHROME1":
                scores.append(radiograph.provenance.polarity_score)
    negatives = sum(score < 0 for score in scores)
    if stored or negatives:
        logger.warning(
            "%s: of %d pictures looked at, %d hold stored values; of %d that were MONOCHROME1, %d are negatives",
            root,
            sample.total(),
            stored,
            len(scores),
            negatives,
        )
    return _Encoding(stored > 0, negatives > len(scores) / 2)


def _holds_stored_values(radiograph: Radiograph, row: Mapping[str, str]) -> bool:
    bits = _number(row, "BitsStored_DICOM")
    return radiograph.pixels.itemsize == 2 and radiograph.provenance.bits_stored <= (16 if bits is None else bits) < 16


def _render(image: Path, row: Mapping[str, str], encoding: _Encoding, target: Path) -> None:
    try:
        radiograph = read_raw_picture(image, _tags("MONOCHROME2"))
        if _holds_stored_values(radiograph, row):
            radiograph = read_raw_picture(image, _tags(_photometric(row), row))
        elif encoding.negatives and _photometric(row) == "MONOCHROME1":
            radiograph = read_raw_picture(image, _tags("MONOCHROME1"))
    except InputError as error:
        logger.warning("%s", error)
        raise DroppedError("cannot be rendered by the table") from error
    radiograph.write_png(target)


def _tags(photometric: str, row: Mapping[str, str] | None = None) -> Header:
    tags = Dataset()
    tags.PhotometricInterpretation = photometric
    for column in ("BitsStored", "WindowCenter", "WindowWidth") if row else ():
        value = _number(row or {}, f"{column}_DICOM")
        if value is not None:
            setattr(tags, column, int(value) if column == "BitsStored" else value)
    return Header(tags)


def _photometric(row: Mapping[str, str]) -> str:
    return row.get("PhotometricInterpretation_DICOM") or "MONOCHROME2"


def _number(row: Mapping[str, str], column: str) -> float | None:
    found = re.search(r"-?\d+(\.\d+)?", row.get(column, ""))
    return float(found[0]) if found else None


def _age(study_date: str, birth_year: str) -> float | None:
    study, birth = years(study_date[:4]), years(birth_year)
    return None if study is None or birth is None else study - birth


SOURCE = PublishedSet(
    name="padchest",
    title="PadChest",
    had_from="https://bimcv.cipf.es/bimcv-projects/padchest",
    layout="""PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv
0/<ImageID>.png ... 54/<ImageID>.png   (or images/<ImageID>.png)""",
    expects=(_TABLE, "[0-9]/*.png|[0-9][0-9]/*.png|images/*.png"),
    labels=LabelMapping(
        {
            "normal": Diagnosis.NORMAL,
            "pneumonia": Diagnosis.OTHER_PNEUMONIA,
            "atypical pneumonia": Diagnosis.OTHER_PNEUMONIA,
            "tuberculosis": Diagnosis.TUBERCULOSIS,
        },
        ignored=frozenset({"unchanged"}),
        excluding=frozenset({"exclude", "suboptimal study"}),
    ),
    licence="BIMCV: research use, terms at http://bimcv.cipf.es/bimcv-projects/padchest",
    citation="Bustos et al., PadChest: a large chest x-ray image dataset with multi-label annotated reports, "
    "Medical Image Analysis 66:101797, 2020",
    read=_read,
)
