"""Rejected files: a closed set of reasons, and an error whose text is free of the patient's identity."""

from enum import Enum
from pathlib import Path

from cxr_isnet.errors import InputError


class RejectionReason(Enum):
    """Reason of a rejection, as the column `reason` of `quarantine.csv` spells it."""

    UNREADABLE = "unreadable"
    LINK = "link"
    LIMIT = "limit"
    ARCHIVE = "archive"
    NOT_DICOM = "not_dicom"
    INDEX = "index"
    MISSING = "missing"
    BROKEN = "broken"
    MODALITY = "modality"
    FOR_PROCESSING = "for_processing"
    FRAMES = "frames"
    COLOUR = "colour"
    PIXEL_FORMAT = "pixel_format"
    NO_PIXELS = "no_pixels"
    UNDECODABLE = "undecodable"
    CRASHED = "crashed"
    BODY_PART = "body_part"
    VIEW = "view"
    BURNED_IN = "burned_in"
    NO_PATIENT = "no_patient"
    POLARITY = "polarity"
    DUPLICATE = "duplicate"


class RejectedFile(InputError):
    """A file that is not accepted; the only error that the content of a file can raise.

    Attributes:
        reason: one of the closed set.
        detail: the tag, the value seen and the remedy, free of a person's identity and of file names.
    """

    def __init__(self, reason: RejectionReason, detail: str, path: Path | None = None) -> None:
        """The rejection, by default without the file's name, as intake's tables and logs need it.

        Args:
            reason: one of the closed set.
            detail: the tag, the value seen and the remedy.
            path: of the file, where it may be shown.
        """
        super().__init__(detail if path is None else f"{path}: {detail}")
        self.reason = reason
        self.detail = detail

    @classmethod
    def unreadable(cls, error: OSError, kind: str = "file") -> "RejectedFile":
        """The rejection of a file or folder that the operating system cannot read.

        Args:
            error: what was raised; its text, which quotes the path, is not repeated.
            kind: "file" or "folder".
        """
        detail = f"the {kind} cannot be read ({type(error).__name__}). Correct its path or permissions"
        return cls(RejectionReason.UNREADABLE, detail)

    def with_path(self, path: Path) -> "RejectedFile":
        """The same rejection with the file's path in its text."""
        return RejectedFile(self.reason, self.detail, path)
