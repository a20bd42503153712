"""What an exporter is: a trained classifier written in a format that other programs run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxr_isnet.inference import Classifier


@dataclass(frozen=True)
class Exporter:
    """One format.

    Attributes:
        name: As given on the command line.
        about: What the format is, in a line.
        write: (classifier, folder that exists and is empty) -> the files written.
    """

    name: str
    about: str
    write: Callable[[Classifier, Path], tuple[Path, ...]]
