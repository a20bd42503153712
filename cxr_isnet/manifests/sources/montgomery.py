"""Montgomery County, USA: normal and tuberculosis.

Layout: the publisher's archive. Left and right lung have a mask each, which become one; an image that has only one of
them gets none, since half a mask would call the other lung background. One image per patient. Source: Jaeger 2014,
Candemir 2014; file names and readings as public readers of the set describe them.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing import nlm_readings as nlm
from cxr_isnet.manifests.source_parsing.source import PublishedSet, Record


def _read(root: Path) -> Iterator[Record]:
    for image in root.glob("CXR_png/*.png"):
        patient, label = nlm.parse_name(image)
        sex, age = nlm.read_clinical_reading(image)
        halves = tuple(root / "ManualMask" / side / image.name for side in ("leftMask", "rightMask"))
        yield Record(
            image,
            (label,),
            patient,
            "Montgomery County, MD, USA",
            view="PA",
            sex=sex,
            age=age,
            masks=halves if any(half.is_file() for half in halves) else (),
        )


SOURCE = PublishedSet(
    name="montgomery",
    title="the Montgomery County chest X-ray set",
    layout="""MontgomerySet/CXR_png/MCUCXR_0001_0.png
MontgomerySet/ClinicalReadings/MCUCXR_0001_0.txt
MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png
MontgomerySet/ManualMask/rightMask/MCUCXR_0001_0.png""",
    expects=("CXR_png/MCUCXR_*.png",),
    labels=nlm.LABELS,
    licence=nlm.LICENCE,
    citation=nlm.CITATION,
    read=_read,
)
