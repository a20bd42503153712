"""The interface of a data source: a folder as its publisher ships it -> records -> rows of a manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.manifests.source_parsing.label_mapping import LabelMapping
from cxr_isnet.manifests.source_parsing.layout import find_layout


class Diagnosis(StrEnum):
    """Classes of this project's studies, to which the labels of the public sets are mapped by default."""

    NORMAL = "normal"
    TUBERCULOSIS = "tuberculosis"
    COVID = "covid"
    OTHER_PNEUMONIA = "other_pneumonia"
    NODULE = "nodule"
    NO_NODULE = "no_nodule"


@dataclass(frozen=True)
class Record:
    """One image as its publisher describes it, before any is dropped.

    Attributes:
        image: The file, which may be missing.
        findings: The labels that are present, in the publisher's words.
        patient_id: The same for all images of a patient.
        site: Hospital that made the image.
        uncertain: The labels that are uncertain.
        view: In the publisher's words, "" where unknown.
        sex: In the publisher's words, "" where unknown.
        age: Years, None where unknown.
        masks: Lung masks that together cover the lungs; empty where there is none.
        licence: Terms of this image, where they differ from the source's.
        header: Whether a missing view, sex and age are read from the DICOM header.
        render: Writes the image as it is to be read, a PNG, to a path, where the publisher's file is no picture; raises
            `DroppedError`. None where the file is read as it is.
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
    render: Callable[[Path], None] | None = None
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TableOptions:
    """Options of the sources `folder` and `table`; the public sets have none.

    Attributes:
        table: Table of labels (`folder`).
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
    """A data set: the layout of its folder and the meaning of its labels.

    Attributes:
        name: As given on the command line.
        title: The publisher's name of the set.
        layout: The folder's layout in words, one path per line.
        labels: Classes of the publisher's labels.
        licence: Terms of use in one line; empty where images bring their own.
        citation: References to cite.
        keeps_unknown_view: Whether images of unknown view are kept, as where the publisher states that all are frontal,
            or gives no views at all.
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
        """The folder that holds the images, and the records in any order.

        Args:
            root: As the user gave it.
            options: As the user set them.

        Raises:
            InputError: `root` is not laid out as expected, or an option does not fit.
        """


@dataclass(frozen=True, kw_only=True)
class PublishedSet(Source):
    """A public data set, with a layout and labels of its own.

    Attributes:
        had_from: Page of the publisher, where the set and its terms are.
        expects: Patterns that each match beneath the folder or one of its subfolders; alternatives are divided by '|'.
        read: Function from a folder that matches `expects` to its records.
    """

    had_from: str
    expects: tuple[str, ...]
    read: Callable[[Path], Iterable[Record]]

    def records(self, root: Path, options: TableOptions) -> tuple[Path, Iterable[Record]]:
        """As `Source.records`; the layout may lie in a subfolder, and no option may be set."""
        if options.given():
            raise InputError(f"source '{self.name}' has labels of its own: leave out {', '.join(options.given())}")
        home = find_layout(root, self.expects, self.title, self.layout)
        return home, self.read(home)
