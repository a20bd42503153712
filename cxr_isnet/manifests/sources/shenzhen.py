"""Shenzhen No.3 Hospital, China: normal and tuberculosis.

Layout: the publisher's archive, with `CXR_png` and `ClinicalReadings`, or one of its copies (`nlm_readings`); lung
masks, which another group has published, in any folder of the set as `<image>_mask.png` (a combined mask of both lungs
for 566 of the 662 images). One image per patient. Source: Jaeger 2014; file names and readings as public readers of the
set describe them.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing import nlm_readings as nlm
from cxr_isnet.manifests.source_parsing.layout import by_name, matches
from cxr_isnet.manifests.source_parsing.source import PublishedSet, Record


def _read(root: Path) -> Iterator[Record]:
    masks = by_name(matches(root, "**/CHNCXR_*_mask.png"))

    def masks_of(image: Path) -> tuple[Path, ...]:
        mask = masks.get(f"{image.stem}_mask.png")
        return (mask,) if mask else ()

    return nlm.read_set(root, "CHNCXR", "Shenzhen No.3 Hospital, China", masks_of)


SOURCE = PublishedSet(
    name="shenzhen",
    title="the Shenzhen chest X-ray set",
    had_from="https://lhncbc.nlm.nih.gov/publication/pub9931",
    layout="""ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png
ChinaSet_AllFiles/ClinicalReadings/CHNCXR_0001_0.txt
ChinaSet_AllFiles/**/CHNCXR_0001_0_mask.png   (lung masks, if you have them)
or Kaggle's "Chest Xray Masks and Labels": Lung Segmentation/{CXR_png,ClinicalReadings,masks}/
or Kaggle's copy of the set: images/images/CHNCXR_0001_0.png, shenzhen_metadata.csv""",
    expects=(nlm.images_of("CHNCXR"),),
    labels=nlm.LABELS,
    licence=nlm.LICENCE,
    citation=f"{nlm.CITATION}; masks: arXiv:1803.01199",
    read=_read,
)
