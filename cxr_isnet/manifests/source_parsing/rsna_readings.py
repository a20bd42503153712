"""RSNA's readings of NIH images: the tables that `rsna_pneumonia` reads and `nih_chestxray14` compares itself with.

`stage_2_detailed_class_info.csv` has the class of each image of the challenge; the file of mappings has the NIH image
(`img_id`) from which an image of the challenge (`subset_img_id`) was made.
"""

import json
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.layout import first_match
from cxr_isnet.tables import read_table, require_columns

DETAILS = "stage_2_detailed_class_info.csv"
MAPPINGS = "*mappings_2018*.json"


def classes_by_image(root: Path) -> dict[str, tuple[str, ...]]:
    """The classes of each image of the challenge, by its `patientId`, which names an image."""
    path = root / DETAILS
    frame = read_table(path)
    require_columns(frame, path, ("patientId", "class"))
    return {str(name): tuple(sorted(set(classes))) for name, classes in frame.groupby("patientId")["class"]}


def nih_names(root: Path) -> dict[str, str]:
    """The NIH file name of each image of the challenge; empty without the file of mappings.

    Raises:
        InputError: the file is not RSNA's.
    """
    path = first_match(root, MAPPINGS)
    if path is None:
        return {}
    try:
        return {row["subset_img_id"]: row["img_id"] for row in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not RSNA's list of mappings: {error!r}. Copy it anew, or remove it") from error


def called_normal(root: Path) -> frozenset[str]:
    """NIH file names of the images that RSNA's radiologists called normal; empty where a table is not there."""
    names = nih_names(root)
    if not names or not (root / DETAILS).is_file():
        return frozenset()
    return frozenset(
        names[image] for image, classes in classes_by_image(root).items() if classes == ("Normal",) and image in names
    )
