"""JSRT: 154 X-rays with a lung nodule and 93 without, of 14 hospitals, with the hand-drawn lung masks of SCR.

Layout: images as `JPCLN001.IMG` (2048 x 2048 big-endian 16-bit words, 12 bits, of the film's density: large is dark,
which is why they are turned into pictures), or converted to PNG or JPEG by someone else, then taken as they are; masks
as `left lung/JPCLN001.gif` and `right lung/JPCLN001.gif`, 1024 x 1024, which leave the heart out; ages and sexes in
`CLNDAT_EN.txt` and `CNNDAT_EN.txt`, or in `jsrt_metadata.csv` of Kaggle's copy; all in any folders. One image per
patient; which hospital made it is not published. Source: Shiraishi 2000, van Ginneken 2006; layout, polarity and tables
as public readers of the set take them (harishanand95/jsrt-parser, `jsrt.py`), columns of Kaggle's table as
farhanxaidi/Programming_for_Big_Data holds it.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from cxr_isnet.imaging import encode_png, sex
from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError, LabelMapping
from cxr_isnet.manifests.source_parsing.layout import matches
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record
from cxr_isnet.tables import read_table, require_columns, rows_of

_SIDE = 2048
_LARGEST = 4095
_IMAGES = "**/JPC[LN]N[0-9][0-9][0-9]"
_KINDS = (".IMG", ".img", ".png", ".PNG", ".jpg", ".JPG", ".jpeg", ".JPEG")
_PERSON = re.compile(r"^(JPC[LN]N\d{3})\S*\s(?:.*?\s)?(\d+|\?)\s+(male|female)\b", re.IGNORECASE | re.MULTILINE)


def _read(root: Path) -> Iterator[Record]:
    images: dict[str, Path] = {}
    for kind in _KINDS:
        for path in matches(root, _IMAGES + kind):
            images.setdefault(path.stem, path)
    lungs = [{path.stem: path for path in matches(root, f"**/{side} lung/JPC*.gif")} for side in ("left", "right")]
    people = dict(_people(root))
    for name in sorted(people.keys() - images.keys()):
        images[name] = next(iter(images.values())).with_stem(name)  # counts as missing
    for name, image in images.items():
        words = people.get(name, ("", None))
        yield Record(
            image,
            ("nodule" if name.startswith("JPCLN") else "non-nodule",),
            f"jsrt-{name}",
            "JSRT, 13 hospitals in Japan and one in the USA",
            view="PA",
            sex=words[0],
            age=words[1],
            masks=tuple(masks[name] for masks in lungs) if all(name in masks for masks in lungs) else (),
            render=partial(_render, image) if image.suffix.lower() == ".img" else None,
        )


def _people(root: Path) -> Iterator[tuple[str, tuple[str, float | None]]]:
    for table in matches(root, "**/C[LN]NDAT_EN.[tT][xX][tT]"):
        for name, age, word in _PERSON.findall(table.read_text(encoding="latin-1")):
            yield name, (sex(word), years(age))
    for path in matches(root, "**/jsrt_metadata.csv"):
        frame = read_table(path)
        require_columns(frame, path, ("study_id", "age", "gender"))
        for row in rows_of(frame):
            yield Path(row["study_id"]).stem, (sex(row["gender"]), years(row["age"]))


def _render(image: Path, target: Path) -> None:
    density = np.fromfile(image, dtype=">u2")
    if density.size != _SIDE**2 or density.max() > _LARGEST:
        raise DroppedError("not 2048 x 2048 pixels of 12 bits")
    pixels = np.rint((_LARGEST - density.reshape(_SIDE, _SIDE).astype(np.float32)) * (65535 / _LARGEST))
    target.write_bytes(b"".join(encode_png((_SIDE, _SIDE), [pixels.astype(np.uint16)])))


SOURCE = PublishedSet(
    name="jsrt",
    title="the JSRT database of lung nodules",
    had_from="http://db.jsrt.or.jp/eng.php",
    layout="""All247images/JPCLN001.IMG   (or .png, .jpg; in any folder)
Clinical_Information/CLNDAT_EN.txt, CNNDAT_EN.txt, or jsrt_metadata.csv   (if you have them)
scratch/fold1/masks/left lung/JPCLN001.gif, right lung/JPCLN001.gif   (SCR's lung masks, if you have them)""",
    expects=("|".join(_IMAGES + kind for kind in _KINDS),),
    labels=LabelMapping({"nodule": Diagnosis.NODULE, "non-nodule": Diagnosis.NO_NODULE}),
    licence="JSRT and SCR: for research, cite",
    citation="Shiraishi et al., Development of a digital image database for chest radiographs with and without a lung "
    "nodule, AJR 174, 2000, 71-74; masks: van Ginneken et al., Segmentation of anatomical structures in chest "
    "radiographs using supervised methods, Medical Image Analysis 10(1), 2006, 19-40",
    read=_read,
)
