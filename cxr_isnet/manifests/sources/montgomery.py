"""Montgomery County, USA: normal and tuberculosis.

Layout: the publisher's archive, or one of its copies (`nlm_readings`). Left and right lung have a mask each, which
become one; an image that has only one of them gets none, since half a mask would call the other lung background. One
image per patient. Source: Jaeger 2014, Candemir 2014; file names and readings as public readers of the set describe
them.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing import nlm_readings as nlm
from cxr_isnet.manifests.source_parsing.source import PublishedSet, Record


def _read(root: Path) -> Iterator[Record]:
    def masks_of(image: Path) -> tuple[Path, ...]:
        halves = tuple(root / "ManualMask" / side / image.name for side in ("leftMask", "rightMask"))
        united = root / "masks" / image.name  # of Kaggle's "Chest Xray Masks and Labels"
        if any(half.is_file() for half in halves):
            return halves
        return (united,) if united.is_file() else ()

    return nlm.read_set(root, "MCUCXR", "Montgomery County, MD, USA", masks_of)


SOURCE = PublishedSet(
    name="montgomery",
    title="the Montgomery County chest X-ray set",
    had_from="https://lhncbc.nlm.nih.gov/publication/pub9931",
    layout="""MontgomerySet/CXR_png/MCUCXR_0001_0.png
MontgomerySet/ClinicalReadings/MCUCXR_0001_0.txt
MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png
MontgomerySet/ManualMask/rightMask/MCUCXR_0001_0.png
or Kaggle's "Chest Xray Masks and Labels": Lung Segmentation/{CXR_png,ClinicalReadings,masks}/
or Kaggle's copy of the set: images/images/MCUCXR_0001_0.png, montgomery_metadata.csv""",
    expects=(nlm.images_of("MCUCXR"),),
    labels=nlm.LABELS,
    licence=nlm.LICENCE,
    citation=nlm.CITATION,
    read=_read,
)
