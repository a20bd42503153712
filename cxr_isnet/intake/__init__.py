"""A hospital's folder of DICOM files to a de-identified manifest.

Reading order: `discovery` (the files of a folder), `importer` (one file to one image), `process_pool` (many at once),
`import_log` (the outcome of each, on disk), `pseudonyms`, `label_join` (labels by patient, accession or file),
`tables` (what is written).
"""

from cxr_isnet.intake.discovery import FoundFile, find_files
from cxr_isnet.intake.import_log import ImportLog
from cxr_isnet.intake.importer import (
    IMAGE_FOLDER,
    Candidate,
    DateAction,
    ImageFormat,
    ImportConfig,
    Imported,
    Importer,
    PolarityAction,
    Rejected,
    UnwritableOutput,
)
from cxr_isnet.intake.label_join import UNLABELLED, read_label_table
from cxr_isnet.intake.process_pool import ProcessPool, TaskFailure
from cxr_isnet.intake.pseudonyms import Pseudonyms, load_pseudonyms
from cxr_isnet.intake.tables import MANIFEST, QUARANTINE, IntakeCounts, write_tables

__all__ = [
    "IMAGE_FOLDER",
    "MANIFEST",
    "QUARANTINE",
    "UNLABELLED",
    "Candidate",
    "DateAction",
    "FoundFile",
    "ImageFormat",
    "ImportConfig",
    "ImportLog",
    "Imported",
    "Importer",
    "IntakeCounts",
    "PolarityAction",
    "ProcessPool",
    "Pseudonyms",
    "Rejected",
    "TaskFailure",
    "UnwritableOutput",
    "find_files",
    "load_pseudonyms",
    "read_label_table",
    "write_tables",
]
