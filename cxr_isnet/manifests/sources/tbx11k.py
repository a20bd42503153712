"""TBX11K: healthy, sick without tuberculosis, tuberculosis; 512 x 512 pixels.

Layout: the lists name images as `health/h0001.png`; what kind of tuberculosis an image of `tb/` shows stands in its
boxes only. Active tuberculosis is tuberculosis; latent alone, and `tb` without a box, have no class. The publisher's
test set has no labels; `imgs/extra` repeats other publishers' sets, Shenzhen and Montgomery among them: both are
counted, not read. Patients, views and hospitals are not published: each image counts as a patient. Source: Liu et al.
2020; mednet's page on the set (boxes, mixed and unannotated images).
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import matches
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record

_SITE = "TBX11K, hospitals not published"


def _read(root: Path) -> Iterator[Record]:
    for split in ("train", "val"):
        boxes = _boxes(root / f"annotations/json/TBX11K_{split}.json")
        for name in (root / f"lists/TBX11K_{split}.txt").read_text(encoding="utf-8").split():
            image = root / "imgs" / name
            kind = image.parent.name
            findings = tuple(sorted(boxes.get(image.name, ()))) if kind == "tb" else (kind,)
            yield Record(image, findings or ("tb without a box",), image.stem, _SITE, more={"official_split": split})
    for image in matches(root, "imgs/test/*.png"):
        yield Record(image, ("test set, labels not published",), image.stem, _SITE)
    for image in matches(root, "imgs/extra/**/*.png|imgs/extra/**/*.jpg"):
        yield Record(image, ("extra, another publisher's set",), image.stem, _SITE)


def _boxes(path: Path) -> dict[str, set[str]]:
    """Names of the categories of an image's boxes, by the image's file name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
        categories = {category["id"]: category["name"] for category in content["categories"]}
        boxes = defaultdict(set)
        for box in content["annotations"]:
            boxes[names[box["image_id"]]].add(categories[box["category_id"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a COCO annotation file: {error!r}. Copy it anew from the archive") from error
    return dict(boxes)


SOURCE = PublishedSet(
    name="tbx11k",
    title="TBX11K",
    had_from="https://mmcheng.net/tb",
    layout="""TBX11K/imgs/{health,sick,tb,test,extra}/*.png
TBX11K/lists/TBX11K_{train,val}.txt
TBX11K/annotations/json/TBX11K_{train,val}.json""",
    expects=(
        "imgs/health",
        "imgs/tb",
        *(f"lists/TBX11K_{split}.txt" for split in ("train", "val")),
        *(f"annotations/json/TBX11K_{split}.json" for split in ("train", "val")),
    ),
    labels=LabelMapping({"health": Diagnosis.NORMAL, "ActiveTuberculosis": Diagnosis.TUBERCULOSIS}),
    licence="terms at https://mmcheng.net/tb",
    citation="Liu et al., Rethinking computer-aided tuberculosis diagnosis, CVPR 2020",
    read=_read,
    keeps_unknown_view=True,
)
