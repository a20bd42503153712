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
from cxr_isnet.manifests.checksums import file_digest
from cxr_isnet.manifests.problems import raise_first
from cxr_isnet.manifests.schema import schema_problems
from cxr_isnet.manifests.source_parsing.combined_masks import NoMaskError, combined_mask
from cxr_isnet.manifests.source_parsing.demographics import frontal_view, sex, with_header
from cxr_isnet.manifests.source_parsing.label_mapping import DroppedError
from cxr_isnet.manifests.source_parsing.layout import MADE_MASKS
from cxr_isnet.manifests.source_parsing.source import Record, Source, TableOptions
from cxr_isnet.tables import WRITTEN_SUFFIXES

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
) -> BuildReport:
    """Writes the manifest of a source.

    Rows are sorted by path. The table is written whole or not at all; masks that had to be made lie beside it, in
    `<name of the table>_masks`. An image whose file is missing is dropped and counted, since a download is often
    partial; it is an error if no image is left.

    Args:
        source: which set.
        root: its folder, for `table` the table.
        output: the manifest, CSV or Parquet; paths in it are relative to its folder, which is made if missing.
        options: for `folder` and `table`.
        labels: publisher's label to class, beside or instead of the source's own.
        checksums: whether to fill the column `sha256`.

    Raises:
        InputError: the layout is another one, a table cannot be read, or no image is left.
    """
    if output.suffix.lower() not in WRITTEN_SUFFIXES:
        raise InputError(f"output '{output}' is no table: name a file that ends in {' or '.join(WRITTEN_SUFFIXES)}")
    options = options or TableOptions()
    for table in (root, Path(options.table or root)):
        if output.exists() and table.exists() and output.samefile(table):
            raise InputError(f"output '{output}' is the table that is read: name another file")
    home, records = source.records(root, options)
    builder = _Builder(source, home, output, dict(labels or {}), checksums)
    frame = builder.frame(records)
    raise_first(schema_problems(frame.set_axis(range(1, len(frame) + 1), axis="index"), str(output)))
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
        labels=dict(sorted(Counter(frame["label"]).items())),
        dropped=dict(builder.dropped.most_common()),
        notes=dict(builder.notes.most_common()),
        licence=source.licence,
        citation=source.citation,
    )


class _Builder:
    """Turns records into rows and counts what is dropped or left empty."""

    def __init__(self, source: Source, home: Path, output: Path, labels: dict[str, str], checksums: bool) -> None:
        self.source = source
        self.home = home
        self.base = output.absolute().parent
        self.made_masks = self.base / f"{output.stem}{MADE_MASKS}"
        self.labels = (
            replace(source.labels, classes={**(source.labels.classes or {}), **labels}) if labels else source.labels
        )
        self.checksums = checksums
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
            raise DroppedError("image file is missing")
        record = with_header(record) if record.header else record
        row = {
            "image": self._relative(record.image),
            "mask": self._mask(record),
            "label": str(label),
            "patient_id": record.patient_id,
            "site": record.site,
            "view": frontal_view(record.view, keeps_unknown=self.source.keeps_unknown_view),
            "sex": sex(record.sex),
            "age": self._age(record.age),
            "licence": record.licence or self.source.licence,
        }
        digest = {"sha256": file_digest(record.image)} if self.checksums else {}
        return {**row, **record.more, **digest}

    def _mask(self, record: Record) -> str:
        if not record.masks:
            return ""
        *folders, name = Path(os.path.relpath(record.image, self.home)).parts
        inside = [folder for folder in folders if folder != ".."]
        target = self.made_masks.joinpath(*inside, name.removesuffix(".png") + ".png")
        try:
            return self._relative(combined_mask(record.image, record.masks, target))
        except NoMaskError as reason:
            self.notes[str(reason)] += 1
            return ""

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
    with atomic_write(output) as partial:
        if output.suffix.lower() == ".parquet":
            frame.to_parquet(partial, index=False)
        else:
            ages = ["" if pd.isna(age) else f"{age:g}" for age in frame["age"]]
            frame.assign(age=ages).to_csv(partial, index=False, lineterminator="\n")
