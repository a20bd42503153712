"""Completion of a manifest's masks: predicts the missing ones, leaves out and lists those with a quality flag."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from cxr_isnet.files import atomic_write
from cxr_isnet.imaging import SOFTWARE, read_image, read_mask
from cxr_isnet.manifests import file_digest
from cxr_isnet.segmentation.mask_prediction import PredictedMask, predict_files
from cxr_isnet.segmentation.overlays import OverlayTile, contact_sheet, overlay
from cxr_isnet.segmentation.pairs import PREDICTED, is_predicted
from cxr_isnet.segmentation.quality import MaskQuality, QualityLimits
from cxr_isnet.segmentation.segmenter import Segmenter
from cxr_isnet.tables import write_table

GIVEN = "given"
MODEL_DIGITS = 16
ACCEPTED_TILES = 24
NAME_DIGITS = 24
_KEY = "cxr-isnet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskStore:
    """A folder of the masks that one segmenter predicted: a PNG per image, with its mask quality in the file.

    A file name is the beginning of the SHA-256 of the image's file: it identifies no patient, is the same wherever the
    image lies, and a changed image gets another one. A mask is written atomically, so a run that was killed can be
    resumed with what is there.

    Attributes:
        folder: Where the PNGs lie.
        model: `Segmenter.mask_source`; masks of another one count as missing.
    """

    folder: Path
    model: str

    def path(self, image_digest: str) -> Path:
        """Where the mask of the image with this SHA-256 is, or would be."""
        return self.folder / f"{image_digest[:NAME_DIGITS]}.png"

    def write(self, image_digest: str, predicted: PredictedMask) -> None:
        """Stores a mask, as 0 and 255, with its quality; the folder exists."""
        metadata = PngImagePlugin.PngInfo()
        metadata.add_text("Software", SOFTWARE)  # drawn on the image as it is read: never turned with it
        metadata.add_text(_KEY, json.dumps({"model": self.model, "quality": asdict(predicted.quality)}))
        with atomic_write(self.path(image_digest)) as partial:
            Image.fromarray(predicted.mask * np.uint8(255)).save(partial, pnginfo=metadata, compress_level=1)

    def quality(self, image_digest: str) -> MaskQuality | None:
        """Quality of a stored mask; None if there is none of this segmenter."""
        path = self.path(image_digest)
        if not path.is_file():
            return None
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                metadata = json.loads(picture.info.get(_KEY, "{}"))
                if metadata.get("model") != self.model:
                    return None
                return MaskQuality(**metadata["quality"])
        except (OSError, SyntaxError, ValueError, TypeError, KeyError) as error:
            _log.warning("%s: damaged (%s); predicted anew", path, error)
            return None


@dataclass(frozen=True)
class MaskCounts:
    """Number of images of a manifest by the mask that they have.

    Attributes:
        images: Rows.
        given: With a mask that was there before.
        predicted: With a mask that the segmenter made.
        flagged: Left empty because the predicted mask has a quality flag.
        unreadable: Left empty because the image cannot be read.
    """

    images: int
    given: int
    predicted: int
    flagged: int
    unreadable: int


def holds_other_files(folder: Path) -> bool:
    """Whether a folder holds files and is not what `complete_masks` wrote, or began to write before it was killed."""
    if not folder.is_dir() or (folder / "quality.csv").is_file():
        return False
    begun = {"masks", "overlays", "accepted.png"}
    return any(entry.name not in begun for entry in folder.iterdir() if not entry.name.startswith("."))


def complete_masks(
    segmenter: Segmenter,
    frame: pd.DataFrame,
    output: Path,
    limits: QualityLimits,
    *,
    overwrite: bool,
    batch_size: int,
    workers: int,
) -> MaskCounts:
    """Predicts the masks that a manifest lacks and writes the manifest with them.

    Files in `output`: `masks/` and `overlays/` (of the flagged), `accepted.png` (a sample of the others), `quality.csv`
    (every predicted mask), `flagged.csv` (every image left without a mask, with the quality flags), and, when all else
    is there, `manifest.csv`. Masks that are in the folder already are not predicted again.

    Args:
        segmenter: Loaded from a file.
        frame: As `read_manifest` returns it.
        output: Folder, made when missing.
        limits: Of the quality flags.
        overwrite: Predicts also where a mask is given.
        batch_size: Images at a time.
        workers: Reading processes; 0 reads in this one.
    """
    store = MaskStore(output / "masks", segmenter.mask_source)
    store.folder.mkdir(parents=True, exist_ok=True)
    wanted = frame[(frame["mask"] == "") | is_predicted(frame) | overwrite]
    images = tqdm(wanted["image"], desc="digests", unit="image", disable=None)
    digests = {str(image): file_digest(image) for image in images}
    problems = _predict_missing(segmenter, store, digests, batch_size, workers)
    table = _quality_table(wanted, digests, store, problems, limits)
    _draw_flagged(output, table)
    _draw_accepted(output / "accepted.png", table)
    return _write_tables(output, frame, table, segmenter.mask_source)


def _predict_missing(
    segmenter: Segmenter, store: MaskStore, digests: dict[str, str], batch_size: int, workers: int
) -> dict[str, str]:
    """Predicts what the store lacks, one image of each content; returns the problems of unreadable ones by digest."""
    missing = {digest: image for image, digest in digests.items() if store.quality(digest) is None}
    _log.info("%d masks to predict, %d are there already", len(missing), len(set(digests.values())) - len(missing))
    problems = {}
    files = predict_files(
        segmenter, list(missing.values()), batch_size=batch_size, workers=workers, description="predict"
    )
    for xray, predicted in files:
        if predicted is None:
            problems[digests[xray.path]] = xray.problem
        else:
            store.write(digests[xray.path], predicted)
    return problems


def _quality_table(
    wanted: pd.DataFrame, digests: dict[str, str], store: MaskStore, problems: dict[str, str], limits: QualityLimits
) -> pd.DataFrame:
    """A row per image that was to be predicted, index as in `wanted`: its mask quality and quality flags."""
    rows = []
    for image in wanted["image"]:
        digest = digests[image]
        quality = None if digest in problems else store.quality(digest)
        if quality is None:
            rows.append({"image": image, "predicted_mask": "", "quality_flags": f"unreadable: {problems[digest]}"})
        else:
            mask, flags = str(store.path(digest)), "; ".join(quality.quality_flags(limits))
            rows.append({"image": image, "predicted_mask": mask, "quality_flags": flags, **asdict(quality)})
    columns = ["image", "predicted_mask", "quality_flags", *MaskQuality.__dataclass_fields__]
    return pd.DataFrame(rows, columns=columns, index=wanted.index)


def _draw_flagged(output: Path, table: pd.DataFrame) -> None:
    """Overlays of the flagged masks, and of no others; `table` gets their paths as column `overlay`."""
    folder = output / "overlays"
    folder.mkdir(exist_ok=True)
    table["overlay"] = ""
    flagged = table[(table["quality_flags"] != "") & (table["predicted_mask"] != "")]
    for index, row in tqdm(flagged.iterrows(), total=len(flagged), desc="overlays", unit="image", disable=None):
        path = folder / Path(row["predicted_mask"]).name
        with atomic_write(path) as partial:
            overlay(read_image(row["image"]), read_mask(row["predicted_mask"], row["image"])).save(partial)
        table.loc[index, "overlay"] = str(path)
    current = {Path(path).name for path in table["overlay"] if path}
    for path in folder.glob("*.png"):
        if path.name not in current:
            path.unlink()


def _draw_accepted(path: Path, table: pd.DataFrame) -> None:
    """A contact sheet of accepted masks, evenly spaced from the lowest to the highest agreement."""
    ranked = table[table["quality_flags"] == ""].sort_values("agreement", kind="stable")
    chosen = np.unique(np.linspace(0, len(ranked) - 1, min(ACCEPTED_TILES, len(ranked))).round().astype(int))
    tiles = []
    for row in ranked.iloc[chosen].to_dict("records"):
        image, mask = read_image(row["image"]), read_mask(row["predicted_mask"], row["image"])
        tiles.append(OverlayTile(image, mask, None, f"agreement {row['agreement']:.3f}"))
    with atomic_write(path) as partial:
        contact_sheet(tiles, f"{len(tiles)} of {len(ranked)} accepted masks").save(partial)


def _write_tables(output: Path, frame: pd.DataFrame, table: pd.DataFrame, model: str) -> MaskCounts:
    accepted = table.index[table["quality_flags"] == ""]
    completed = frame.copy()
    source = completed["mask_source"] if "mask_source" in completed.columns else pd.Series("", index=completed.index)
    completed["mask_source"] = source.mask((source == "") & (completed["mask"] != ""), GIVEN)
    completed.loc[table.index, ["mask", "mask_source"]] = ""
    completed.loc[accepted, "mask"] = table.loc[accepted, "predicted_mask"]
    shortened = re.sub(rf"\b([0-9a-f]{{{MODEL_DIGITS}}})[0-9a-f]+\b", r"\1", model)
    completed.loc[accepted, "mask_source"] = PREDICTED + shortened
    tables: Sequence[tuple[str, pd.DataFrame, Sequence[str]]] = (
        ("quality.csv", table[table["predicted_mask"] != ""], ("image", "predicted_mask", "overlay")),
        ("flagged.csv", table[table["quality_flags"] != ""], ("image", "predicted_mask", "overlay")),
        ("manifest.csv", completed, ("image", "mask")),
    )
    for name, content, paths in tables:
        relative = content.assign(**{column: _relative(content[column], output) for column in paths})
        write_table(relative, output / name)
    unreadable = int((table["predicted_mask"] == "").sum())
    return MaskCounts(
        images=len(frame),
        given=len(frame) - len(table),
        predicted=len(accepted),
        flagged=len(table) - len(accepted) - unreadable,
        unreadable=unreadable,
    )


def _relative(paths: pd.Series, folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) if path else "" for path in paths]
