"""Scan of manifests: the input of every check. The tables' rows, and a record per file, read once and in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cxr_isnet.checks.findings import Finding, Severity, from_problem
from cxr_isnet.checks.records import ImageRecord, MaskRecord, image_record, mask_record
from cxr_isnet.errors import InputError
from cxr_isnet.manifests import MANIFEST_COLUMNS, Place, inspect_manifest, join_tables

SCHEMA_CHECK = "schema"

MAX_VALUES = 200
"""Number of values above which a further column of a table identifies images rather than a property."""

STUDY_COLUMNS = ("study_uid", "study_id", "study_instance_uid", "StudyInstanceUID")
"""Names of a column that says of which study an image is."""

Record = TypeVar("Record")


@dataclass(frozen=True)
class ManifestScan:
    """Tables and files of a set of manifests.

    Attributes:
        tables: names of the tables that could be read.
        frame: their rows, indexed by `Place`, as `join_tables` gives them, without further columns of many values;
            cells may break the schema.
        images: path to record, for every image in the tables.
        masks: path to record, for every mask in the tables.
        schema_findings: findings about tables and cells that break the schema.
        external: those of `tables` that nothing is learned from.
    """

    tables: tuple[str, ...]
    frame: pd.DataFrame
    images: Mapping[str, ImageRecord]
    masks: Mapping[str, MaskRecord]
    schema_findings: tuple[Finding, ...] = ()
    external: tuple[str, ...] = ()

    @cached_property
    def comparable(self) -> tuple[ImageRecord, ...]:
        """Records of images that can be compared: readable, not blank, one per content."""
        seen: dict[str, ImageRecord] = {}
        for record in self.images.values():
            if record.thumbnail is not None and not record.blank:
                seen.setdefault(record.sha256, record)
        return tuple(seen.values())

    @cached_property
    def thumbnails(self) -> Sequence[NDArray[np.uint8]]:
        """Thumbnails (side, side) of the comparable images; those of the records, not copies."""
        return [record.thumbnail for record in self.comparable if record.thumbnail is not None]

    def rows(self, image: str) -> pd.DataFrame:
        """Rows of an image, without further columns: it is asked for every image, and each column costs."""
        return self._own_columns.iloc[self._positions[image]]

    def places(self, image: str) -> tuple[Place, ...]:
        """Places of the rows of an image."""
        return tuple(self.frame.index[self._positions[image]])

    @cached_property
    def _own_columns(self) -> pd.DataFrame:
        return self.frame[[name for name in self.frame.columns if name in MANIFEST_COLUMNS]]

    @cached_property
    def _positions(self) -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = {}
        for position, image in enumerate(self.frame["image"]):
            found.setdefault(image, []).append(position)
        return found


def scan_manifests(tables: Sequence[str], *, workers: int, external: Sequence[str] = ()) -> ManifestScan:
    """Read manifests and their files as far as they can be read.

    Args:
        tables: manifests, tables or column mappings.
        workers: files read at a time.
        external: more tables, that nothing is learned from.

    Raises:
        InputError: no table was named, or one was named twice.
    """
    if not tables or len({*tables, *external}) < len(tables) + len(external):
        raise InputError(
            f"tables is {list(tables)} and external {list(external)}: name one or more manifests, each once"
        )
    names, frames, schema_findings = [], [], []
    for table in (*tables, *external):
        try:
            frame, problems = inspect_manifest(table)
        except InputError as error:
            schema_findings.append(Finding(SCHEMA_CHECK, Severity.UNUSABLE, str(error), value=table))
            continue
        schema_findings += [from_problem(problem, SCHEMA_CHECK, Severity.UNUSABLE) for problem in problems]
        names.append(table)
        frames.append(_properties_only(frame))
    frame = join_tables(names, frames) if frames else pd.DataFrame(columns=["image", "mask"], dtype=str)
    images = read_records(image_record, frame["image"], "images", workers)
    image_of = dict(zip(frame["mask"], frame["image"], strict=True))
    masks = read_records(lambda mask: mask_record(mask, image_of[mask]), frame["mask"], "masks", workers)
    return ManifestScan(
        tuple(names), frame, images, masks, tuple(schema_findings), tuple(t for t in names if t in external)
    )


def _properties_only(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without the columns that no check looks at: those beyond a manifest's own that identify images."""
    most = min(MAX_VALUES, max(2, len(frame) // 2))
    known = (*MANIFEST_COLUMNS, *STUDY_COLUMNS)
    kept = [name for name in frame.columns if name in known or frame[name].nunique() <= most]
    return frame[kept]


def read_records(read: Callable[[str], Record], paths: pd.Series, what: str, workers: int) -> dict[str, Record]:
    """Record of every distinct path, "" left out, in the order of the paths.

    Args:
        read: path -> record; never raises for a bad file.
        paths: as the tables give them.
        what: name of the progress bar.
        workers: threads; decoding and hashing release the interpreter's lock.
    """
    wanted = [path for path in paths.unique() if path]
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(pool.map(read, wanted), total=len(wanted), desc=f"read {what}", unit="file", disable=None)
        return dict(zip(wanted, bar, strict=True))
