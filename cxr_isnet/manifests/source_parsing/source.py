"""What a source is: a folder as its publisher ships it -> records -> rows of a manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import locate


class Diagnosis(StrEnum):
    """Classes of this project's studies; what a source's labels are mapped to unless told otherwise."""

    NORMAL = "normal"
    TUBERCULOSIS = "tuberculosis"
    COVID = "covid"
    OTHER_PNEUMONIA = "other_pneumonia"


@dataclass(frozen=True)
class Record:
    """One image as its publisher describes it, before anything is dropped.

    Attributes:
        image: The file; it may turn out not to be there.
        findings: The publisher's labels that hold for the image, in the publisher's words.
        patient_id: The same for all images of a patient.
        site: Hospital that made the image.
        uncertain: Labels that the publisher neither affirms nor denies.
        view: As the publisher says it, "" where nothing is said.
        sex: As the publisher says it, "" where nothing is said.
        age: Years, None where not known.
        masks: Lung masks that together cover the lungs; empty where there is none.
        licence: Terms of this image, where they differ from the source's.
        header: Whether view, sex and age that are not given here are looked up in the DICOM header.
        more: Further columns of the manifest.
    """

    image: Path
    findings: tuple[str, ...]
    patient_id: str
    site: str
    uncertain: tuple[str, ...] = ()
    view: str = ""
    sex: str = ""
    age: float | None = None
    masks: tuple[Path, ...] = ()
    licence: str = ""
    header: bool = False
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TableOptions:
    """Where the sources `folder` and `table` find their labels; the publishers' own sources take none.

    Attributes:
        table: CSV or Parquet table of labels (`folder`).
        columns: The manifest's column to the table's column.
        constants: The manifest's column to a value for all rows.
        where: The table's column to the values whose rows are kept.
    """

    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, list[str]] = field(default_factory=dict)

    def given(self) -> list[str]:
        """Names of the options that are set."""
        return [name for name in ("table", "columns", "constants", "where") if getattr(self, name)]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A data set: what its folder looks like and what its labels mean.

    Attributes:
        name: As given on the command line.
        title: As people know the set.
        layout: The folder's layout, for people: one path a line.
        labels: Classes of the publisher's labels.
        licence: Terms of use in one line; empty where images bring their own.
        citation: What whoever uses the set cites.
        keeps_unknown_view: Whether an image of which no view is told is kept: so where all images are frontal by the
            publisher's word, and where the publisher says nothing of views.
    """

    name: str
    title: str
    layout: str
    labels: LabelMapping
    licence: str
    citation: str
    keeps_unknown_view: bool = False

    @abstractmethod
    def records(self, root: Path, options: TableOptions) -> tuple[Path, Iterable[Record]]:
        """The folder that images lie beneath, and the records in any order.

        Args:
            root: What the user gave.
            options: What the user set.

        Raises:
            InputError: `root` is not laid out as expected, or an option does not fit.
        """


@dataclass(frozen=True, kw_only=True)
class PublishedSet(Source):
    """A set with a layout and labels of its own.

    Attributes:
        expects: Patterns that each match beneath the folder or one of its subfolders; alternatives are divided by '|'.
        read: Folder that fits `expects` -> records.
    """

    expects: tuple[str, ...]
    read: Callable[[Path], Iterable[Record]]

    def records(self, root: Path, options: TableOptions) -> tuple[Path, Iterable[Record]]:
        """As `Source.records`; the layout may lie in a subfolder, and no option may be set."""
        if options.given():
            raise InputError(f"source '{self.name}' has labels of its own: leave out {', '.join(options.given())}")
        home = locate(root, self.expects, self.title, self.layout)
        return home, self.read(home)
