"""A source's folder to a manifest on disk: labels are mapped, unusable images are dropped and counted."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from cxr_isnet.errors import InputError
from cxr_isnet.files import atomic_write
from cxr_isnet.imaging import sex
from cxr_isnet.manifests.checksums import file_digest
from cxr_isnet.manifests.problems import raise_first, spelling_problems
from cxr_isnet.manifests.schema import REQUIRED_COLUMNS, schema_problems
from cxr_isnet.manifests.source_parsing.combined_masks import NoMaskError, combined_mask
from cxr_isnet.manifests.source_parsing.demographics import frontal_view, with_header
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError
from cxr_isnet.manifests.source_parsing.layout import MADE_IMAGES, MADE_MASKS, listing
from cxr_isnet.manifests.source_parsing.source import Record, Source, TableOptions
from cxr_isnet.tables import WRITTEN_SUFFIXES, check_replaceable, write_table

logger = logging.getLogger(__name__)

_MAX_AGE = 120
_COLUMNS = ["image", "mask", "label", "patient_id", "site", "view", "sex", "age", "licence"]


@dataclass(frozen=True)
class BuildReport:
    """Counts of the rows of a built manifest and of the images that were dropped.

    Attributes:
        source: Name of the source.
        table: The manifest.
        rows: Its rows.
        patients: Its patients.
        sites: Its sites.
        masks: Rows with a lung mask.
        rendered: Rows whose image had to be rendered, beside the table.
        labels: Rows per class.
        dropped: Images without a row, by reason.
        notes: Cells left empty, by reason.
        licence: Terms of use.
        citation: What to cite.
    """

    source: str
    table: Path
    rows: int
    patients: int
    sites: int
    masks: int
    rendered: int
    labels: Mapping[str, int]
    dropped: Mapping[str, int]
    notes: Mapping[str, int]
    licence: str
    citation: str

    def summary(self) -> str:
        """The report as text, one count per line."""
        lines = [
            f"{self.table}: {self.rows} images, {self.patients} patients, {self.sites} sites, {self.masks} lung masks",
            *(f"  {count:>7}  {label}" for label, count in self.labels.items()),
        ]
        if self.rendered:
            lines.append(f"rendered: {self.rendered} images, in {self.table.stem}{MADE_IMAGES}/ beside the table")
        for title, counts in (("dropped", self.dropped), ("left empty", self.notes)):
            if counts:
                lines.append(f"{title}: {sum(counts.values())}")
                lines += [f"  {count:>7}  {reason}" for reason, count in counts.items()]
        terms = {"licence": self.licence, "cite": self.citation}
        return "\n".join([*lines, *(f"{what}: {text}" for what, text in terms.items() if text)])


def build_manifest(
    source: Source,
    root: Path,
    output: Path,
    *,
    options: TableOptions | None = None,
    labels: Mapping[str, str] | None = None,
    checksums: bool = False,
    partial: bool = False,
) -> BuildReport:
    """Writes the manifest of a source.

    Rows are sorted by path. The table is written whole or not at all; masks and images that had to be made lie beside
    it, in `<name of the table>_masks` and `_rendered`. An image whose file is missing is dropped and counted; it is an
    error if more are missing than found.

    Args:
        source: which set.
        root: its folder, for `table` the table.
        output: the manifest, CSV or Parquet; paths in it are relative to its folder, which is made if missing.
        options: for `folder` and `table`.
        labels: publisher's label to class, beside or instead of the source's own.
        checksums: whether to fill the column `sha256`.
        partial: takes a part of a set, of which most images are missing.

    Raises:
        InputError: the layout is another one, a table cannot be read, most images are missing, no image is left, or the
            output is a file that is no manifest.
    """
    if output.suffix.lower() not in WRITTEN_SUFFIXES:
        raise InputError(f"output '{output}' is no table: name a file that ends in {' or '.join(WRITTEN_SUFFIXES)}")
    options = options or TableOptions()
    for table in (root, Path(options.table or root)):
        if output.exists() and table.exists() and output.samefile(table):
            raise InputError(f"output '{output}' is the table that is read: name another file")
    check_replaceable(output, REQUIRED_COLUMNS, "a manifest")
    home, records = source.records(root, options)
    builder = _Builder(source, home, output, dict(labels or {}), checksums, partial)
    frame = builder.frame(records)
    numbered = frame.set_axis(range(1, len(frame) + 1), axis="index")
    raise_first((*schema_problems(numbered, str(output)), *spelling_problems(numbered, str(output))))
    _write(frame, output)
    for reason, count in builder.dropped.most_common():
        logger.info("%s: dropped %d: %s", source.name, count, reason)
    return BuildReport(
        source.name,
        output,
        rows=len(frame),
        patients=len(frame[["site", "patient_id"]].drop_duplicates()),
        sites=frame["site"].nunique(),
        masks=int((frame["mask"] != "").sum()),
        rendered=builder.rendered,
        labels=dict(sorted(Counter(frame["label"]).items())),
        dropped=dict(builder.dropped.most_common()),
        notes=dict(builder.notes.most_common()),
        licence=source.licence,
        citation=source.citation,
    )


class _Builder:
    """Turns records into rows and counts what is dropped or left empty."""

    def __init__(
        self, source: Source, home: Path, output: Path, labels: dict[str, str], checksums: bool, partial: bool
    ) -> None:
        self.source = source
        self.home = home
        self.base = output.absolute().parent
        self.made = {ending: self.base / f"{output.stem}{ending}" for ending in (MADE_MASKS, MADE_IMAGES)}
        self.labels = (
            replace(source.labels, classes={**(source.labels.classes or {}), **labels}) if labels else source.labels
        )
        self.checksums = checksums
        self.partial = partial
        self.present = self.rendered = 0
        self.missing: list[Path] = []
        self.dropped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def frame(self, records: Iterable[Record]) -> pd.DataFrame:
        """All rows, sorted by path."""
        rows: dict[str, dict[str, str | float | None]] = {}
        conflicting = set()
        for record in tqdm(records, desc=self.source.name, unit="image", disable=None):
            try:
                row = self._row(record)
            except DroppedError as reason:
                self.dropped[str(reason)] += 1
                continue
            image = str(row["image"])
            if image in rows:
                self.dropped["listed again"] += 1
                if row["label"] != rows[image]["label"]:
                    conflicting.add(image)
            else:
                rows[image] = row
        for image in conflicting:
            del rows[image]
            self.dropped["listed with several classes"] += 1
        if len(self.missing) > self.present and not self.partial:
            raise InputError(self._most_are_missing())
        if not rows:
            reasons = (
                "; ".join(f"{count} {reason}" for reason, count in self.dropped.most_common(5)) or "none was listed"
            )
            raise InputError(
                f"{self.home}: no image of {self.source.title} is left: {reasons}. Expected:\n{self.source.layout}"
            )
        frame = pd.DataFrame([rows[image] for image in sorted(rows)])
        text = [column for column in frame.columns if column != "age"]
        return frame.assign(**frame[text].fillna(""), age=frame["age"].astype(float))

    def _row(self, record: Record) -> dict[str, str | float | None]:
        label = self.labels.class_of(record.findings, record.uncertain)
        for name, cell in (("patient id", record.patient_id), ("site", record.site)):
            if not cell:
                raise DroppedError(f"no {name}")
        if not record.header:
            frontal_view(record.view, keeps_unknown=self.source.keeps_unknown_view)
        if not record.image.is_file():
            self.missing.append(record.image)
            raise DroppedError("image file is missing")
        self.present += 1
        record = with_header(record) if record.header else record
        view = frontal_view(record.view, keeps_unknown=self.source.keeps_unknown_view)
        record = self._rendered(record)
        row = {
            "image": self._relative(record.image),
            "mask": self._mask(record),
            "label": str(label),
            "patient_id": record.patient_id,
            "site": record.site,
            "view": view,
            "sex": sex(record.sex),
            "age": self._age(record.age),
            "licence": record.licence or self.source.licence,
        }
        digest = {"sha256": file_digest(record.image)} if self.checksums else {}
        return {**row, **record.more, **digest}

    def _mask(self, record: Record) -> str:
        if not record.masks:
            return ""
        try:
            return self._relative(combined_mask(record.image, record.masks, self._made(MADE_MASKS, record.image)))
        except NoMaskError as reason:
            self.notes[str(reason)] += 1
            return ""

    def _rendered(self, record: Record) -> Record:
        """The record with the image that its source renders, if it does."""
        if record.render is None:
            return record
        target = self._made(MADE_IMAGES, record.image)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial:
            record.render(partial)
        self.rendered += 1
        return replace(record, image=target)

    def _made(self, kind: str, image: Path) -> Path:
        """Where a file that is made for an image lies: beside the table, in the folders of the set."""
        home = self.made[MADE_IMAGES] if image.is_relative_to(self.made[MADE_IMAGES]) else self.home
        *folders, name = Path(os.path.relpath(image, home)).parts
        inside = [folder for folder in folders if folder != ".."]
        return self.made[kind].joinpath(*inside, name.removesuffix(".png") + ".png")

    def _most_are_missing(self) -> str:
        """The error that says what was looked for where."""
        first = self.missing[0]
        there = next(folder for folder in first.parents if folder.is_dir())
        examples = ", ".join(os.path.relpath(path, self.home) for path in self.missing[:3])
        return (
            f"{self.home}: {len(self.missing)} of {len(self.missing) + self.present} images of {self.source.title} are "
            f"missing. Looked for {examples}; {there} holds {listing(there)}. Name the folder of the whole set, laid "
            f"out as below, unpack what is missing, or give --partial true if you have a part only. Expected:\n"
            f"{self.source.layout}"
        )

    def _age(self, age: float | None) -> float | None:
        if age is not None and not 0 <= age <= _MAX_AGE:
            self.notes[f"age is not from 0 to {_MAX_AGE}"] += 1
            return None
        return age

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.base)).as_posix()


def _write(frame: pd.DataFrame, output: Path) -> None:
    """Writes the table, columns of the schema first, ages without trailing zeros."""
    more = [column for column in frame.columns if column not in _COLUMNS]
    frame = frame[_COLUMNS + more]
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() != ".parquet":
        frame = frame.assign(age=["" if pd.isna(age) else f"{age:g}" for age in frame["age"]])
    write_table(frame, output)
