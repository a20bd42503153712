"""A hospital's folder of DICOM files to a de-identified manifest.

Reading order: `discovery` (the files of a folder), `importer` (one file to one image, with `archives`), `process_pool`
(many at once), `import_log` (the outcome of each, on disk), `inventory` (what is new, known, gone), `pseudonyms`,
`label_join` (labels by patient, accession or file), `tables` and `readme` (what is written).
"""

from cxr_isnet.intake.discovery import FoundFile, Rejected, find_files, resolved_root
from cxr_isnet.intake.import_log import ImportLog, holds_import_log
from cxr_isnet.intake.importer import (
    IMAGE_FOLDER,
    Candidate,
    DateAction,
    FileLimits,
    ImageFormat,
    ImportConfig,
    Imported,
    Importer,
    PolarityAction,
    UnwritableOutput,
)
from cxr_isnet.intake.inventory import Inventory, take_inventory
from cxr_isnet.intake.label_join import KEYWORDS, UNLABELLED, JoinedLabels, LabelTable, read_label_table
from cxr_isnet.intake.process_pool import ProcessPool, TaskFailure
from cxr_isnet.intake.pseudonyms import Pseudonyms, load_pseudonyms, private_folder
from cxr_isnet.intake.readme import write_readme
from cxr_isnet.intake.tables import MANIFEST, QUARANTINE, IntakeCounts, write_tables

__all__ = [
    "IMAGE_FOLDER",
    "KEYWORDS",
    "MANIFEST",
    "QUARANTINE",
    "UNLABELLED",
    "Candidate",
    "DateAction",
    "FileLimits",
    "FoundFile",
    "ImageFormat",
    "ImportConfig",
    "ImportLog",
    "Imported",
    "Importer",
    "IntakeCounts",
    "Inventory",
    "JoinedLabels",
    "LabelTable",
    "PolarityAction",
    "ProcessPool",
    "Pseudonyms",
    "Rejected",
    "TaskFailure",
    "UnwritableOutput",
    "find_files",
    "holds_import_log",
    "load_pseudonyms",
    "private_folder",
    "read_label_table",
    "resolved_root",
    "take_inventory",
    "write_readme",
    "write_tables",
]
