"""BIMCV-COVID19+: patients of the Valencian region with a positive test, X-rays as 16-bit PNG in a BIDS-like tree.

Layout: the metadata archives and those of the subjects unpacked side by side: `labels_covid19_posi.tsv` is the table of
iteration 1, `labels_covid_posi.tsv` of 1 and 2, `Labels_covid_123.tsv` of 1 to 3, whose archives unpack into
`covid19_posi`. The PNGs hold a detector's stored values;
the JSON beside each has the DICOM tags that say how they are rendered (photometric interpretation, window or VOI LUT,
rescaling), and often says LATERAL where the name says `vp-pa`. Without one an image is dropped, as it may be a
negative. The label is that of the session's report: 'COVID 19' is covid; 'COVID 19 uncertain' has no class; a normal
X-ray of such a patient is no healthy control and has none either. The view is that of the file's name (`vp-pa`,
`vp-ap`), which is wrong for some laterals. The hospital is not published. Not every file of `mod-rx` is a radiograph:
only names that end in cr or dx are. Source: arXiv:2006.01174; columns `PatientID`, `ReportID`, `Labels`, `participant`,
`age`, `gender` as public readers of the set use them, among them rilshok/BIMCV-COVID-19-interface
(`bimcvcovid19i/data.py`), which names the archives and tables of the iterations.
"""

import logging
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_json_header, read_raw_picture
from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError, LabelMapping
from cxr_isnet.manifests.source_parsing.layout import matches, only_match
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns

logger = logging.getLogger(__name__)

_LABELS = "|".join(
    f"{folder}derivatives/labels/{table}.tsv"
    for folder in ("", "*/")
    for table in ("labels_covid19_posi", "labels_covid_posi", "Labels_covid_123")
)
_PARTICIPANTS = "participants.tsv|*/participants.tsv"
_IMAGES = "sub-*/ses-*/mod-rx/*.png|*/sub-*/ses-*/mod-rx/*.png"
_VIEW = re.compile(r"_vp-([a-z-]+)_")
_NO_RADIOGRAPH = "not a radiograph by its name"


def _read(root: Path) -> Iterator[Record]:
    sessions, people = _sessions(root), _people(root)
    for image in matches(root, _IMAGES):
        subject, session = image.parts[-4:-2]
        view = _VIEW.search(image.name)
        radiograph = image.stem.rpartition("_")[2] in ("cr", "dx")
        sex, age = people.get(subject, ("", ""))
        yield Record(
            image,
            sessions.get((subject, session), ()) if radiograph else (_NO_RADIOGRAPH,),
            subject,
            "Valencian region, Spain, hospital not published",
            view=view[1] if view else "",
            sex=sex,
            age=years(age),
            render=partial(_render, image),
        )


def _render(image: Path, target: Path) -> None:
    tags = image.with_suffix(".json")
    if not tags.is_file():
        raise DroppedError("no JSON beside the image says how it is rendered")
    try:
        radiograph = read_raw_picture(image, read_json_header(tags))
    except InputError as error:
        logger.warning("%s", error)
        raise DroppedError("cannot be rendered by the JSON beside it") from error
    if radiograph.provenance.view in ("lateral", "other"):
        raise DroppedError(f"view '{radiograph.provenance.view}' is not frontal")
    radiograph.write_png(target)


def _sessions(root: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    path = only_match(root, _LABELS)
    frame = read_table(path)
    require_columns(frame, path, ("PatientID", "ReportID", "Labels"))
    cells = zip(frame["PatientID"], frame["ReportID"], frame["Labels"], strict=True)
    return {
        (subject, session): tuple(label.strip() for label in re.findall(r"'([^']*)'", labels))
        for subject, session, labels in cells
    }


def _people(root: Path) -> dict[str, tuple[str, str]]:
    path = only_match(root, _PARTICIPANTS)
    frame = read_table(path)
    require_columns(frame, path, ("participant", "age", "gender"))
    cells = zip(frame["participant"], frame["gender"], frame["age"], strict=True)
    return {subject: (sex, age) for subject, sex, age in cells}


SOURCE = PublishedSet(
    name="bimcv_covid19",
    title="BIMCV-COVID19+",
    had_from="https://bimcv.cipf.es/bimcv-projects/bimcv-covid19",
    layout="""participants.tsv   (or bimcv_covid19_posi_head_iter1/participants.tsv, covid19_posi/participants.tsv)
derivatives/labels/labels_covid19_posi.tsv, labels_covid_posi.tsv or Labels_covid_123.tsv   (or beneath the same folder)
sub-S03044/ses-E06147/mod-rx/sub-S03044_ses-E06147_run-1_bp-chest_vp-pa_dx.png, and .json""",
    expects=(_LABELS, _PARTICIPANTS, _IMAGES),
    labels=LabelMapping({"COVID 19": Diagnosis.COVID}),
    licence="BIMCV-COVID19 research use agreement",
    citation="BIMCV COVID-19+: a large annotated dataset of RX and CT images from COVID-19 patients, arXiv:2006.01174",
    read=_read,
)
