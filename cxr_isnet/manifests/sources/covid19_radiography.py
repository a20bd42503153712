"""COVID-19 Radiography Database: a collection of other sets in four folders, with lung masks of 256 x 256 pixels.

Layout: the Kaggle archive. The masks are resized to that of the images, 299 x 299. Patients are not identified: each
image counts as one, so patients may be in two splits. Each folder was collected from other places (COVID from the
PadChest group, Hannover, papers; Normal from RSNA and a children's hospital; Lung_Opacity from RSNA; Viral Pneumonia
from the children's hospital), so a folder is a site here, and class and site are the same: not for training by itself.
The places of single images stand in Excel tables and are not read. Source: the database's README, as its copies quote
it.
"""

from collections.abc import Iterator
from pathlib import Path

from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import matches
from cxr_isnet.manifests.source_parsing.source import Diagnosis, PublishedSet, Record

_FOLDERS = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def _read(root: Path) -> Iterator[Record]:
    for folder in _FOLDERS:
        for image in matches(root, f"{folder}/images/*.png"):
            mask = root / folder / "masks" / image.name
            masks = (mask,) if mask.is_file() else ()
            yield Record(image, (folder,), image.stem, f"COVID-19 Radiography, {folder}", masks=masks)


SOURCE = PublishedSet(
    name="covid19_radiography",
    title="the COVID-19 Radiography Database",
    had_from="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
    layout="""COVID-19_Radiography_Dataset/{COVID,Lung_Opacity,Normal,Viral Pneumonia}/images/COVID-1.png
COVID-19_Radiography_Dataset/{COVID,Lung_Opacity,Normal,Viral Pneumonia}/masks/COVID-1.png""",
    expects=tuple(f"{folder}/images/*.png" for folder in _FOLDERS),
    labels=LabelMapping(
        {
            "COVID": Diagnosis.COVID,
            "Lung_Opacity": Diagnosis.OTHER_PNEUMONIA,
            "Viral Pneumonia": Diagnosis.OTHER_PNEUMONIA,
            "Normal": Diagnosis.NORMAL,
        }
    ),
    licence="terms of the sets that it collects; see its README",
    citation="Chowdhury et al., Can AI help in screening viral and COVID-19 pneumonia?, IEEE Access 8, 2020, "
    "132665-132676",
    read=_read,
    keeps_unknown_view=True,
)
