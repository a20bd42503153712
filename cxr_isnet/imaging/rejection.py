"""Why a file is not taken: a closed set of reasons, told without a word of the patient."""

from enum import Enum

from cxr_isnet.errors import InputError


class RejectionReason(Enum):
    """Reasons of a refusal, as the column `reason` of `quarantine.csv` spells them."""

    UNREADABLE = "unreadable"
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
    """A file that intake does not take; the only error that reading a file of any content raises.

    Attributes:
        reason: what kind of obstacle.
        detail: the tag, the value seen and the remedy, free of a person's identity and of file names.
    """

    def __init__(self, reason: RejectionReason, detail: str, place: str = "") -> None:
        """Refuse.

        Args:
            reason: what kind of obstacle.
            detail: the tag, the value seen and the remedy.
            place: path of the file, where it may be shown; "" in tables and logs.
        """
        super().__init__(f"{place}: {detail}" if place else detail)
        self.reason = reason
        self.detail = detail

    @classmethod
    def unreadable(cls, error: OSError, kind: str = "file", place: str = "") -> "RejectedFile":
        """The rejection of a file or folder that the operating system does not let us read.

        Args:
            error: what was raised; its text, which quotes the path, is not repeated.
            kind: "file" or "folder".
            place: path of the file, where it may be shown.
        """
        detail = f"the {kind} cannot be read ({type(error).__name__}). Correct its path or permissions"
        return cls(RejectionReason.UNREADABLE, detail, place)

    def at(self, place: str) -> "RejectedFile":
        """The same refusal, told with the file's path."""
        return RejectedFile(self.reason, self.detail, place)
