"""Manifests: tables of images with their lung masks, labels, patients and hospitals.

Reading order: `schema` (the columns), `reading` (tables to checked frames), `problems` (what may be wrong with rows),
`splitting`; `column_mapping` (other tables as manifests); `building` (public data sets to manifests) with `sources`,
one file per set, and `source_parsing`, what they share.
"""

from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.checksums import checksum_problems, digest, file_digest
from cxr_isnet.manifests.column_mapping import MAPPING_SUFFIXES
from cxr_isnet.manifests.data_folder import set_folder, set_manifest
from cxr_isnet.manifests.problems import (
    ColumnProblem,
    Place,
    missing_file_problems,
    patient_overlap_problems,
    raise_first,
    repeated_image_problems,
    spelling_problems,
)
from cxr_isnet.manifests.reading import (
    inspect_manifest,
    join_tables,
    read_manifest,
    read_manifests,
)
from cxr_isnet.manifests.schema import MANIFEST_COLUMNS, REQUIRED_COLUMNS, SPLITS
from cxr_isnet.manifests.source_parsing.demographics import years
from cxr_isnet.manifests.splitting import split_by_patient

__all__ = [
    "MANIFEST_COLUMNS",
    "MAPPING_SUFFIXES",
    "REQUIRED_COLUMNS",
    "SPLITS",
    "ColumnProblem",
    "Place",
    "build_manifest",
    "checksum_problems",
    "digest",
    "file_digest",
    "inspect_manifest",
    "join_tables",
    "missing_file_problems",
    "patient_overlap_problems",
    "raise_first",
    "read_manifest",
    "read_manifests",
    "repeated_image_problems",
    "set_folder",
    "set_manifest",
    "spelling_problems",
    "split_by_patient",
    "years",
]
