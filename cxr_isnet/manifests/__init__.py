"""Manifests: tables of images with their lung masks, labels, patients and hospitals.

Reading order: `schema` (the columns), `reading` (tables to checked frames), `problems` (what may be wrong with rows),
`splitting`; `column_mapping` (other tables as manifests); `building` (public data sets to manifests) with `sources`,
one file per set, and `source_parsing`, what they share.
"""

from cxr_isnet.manifests.checksums import digest, file_digest
from cxr_isnet.manifests.problems import ColumnProblem, Place
from cxr_isnet.manifests.reading import inspect_manifest, join_tables, read_manifest, read_manifests
from cxr_isnet.manifests.schema import REQUIRED_COLUMNS, SPLITS
from cxr_isnet.manifests.splitting import split_by_patient

__all__ = [
    "REQUIRED_COLUMNS",
    "SPLITS",
    "ColumnProblem",
    "Place",
    "digest",
    "file_digest",
    "inspect_manifest",
    "join_tables",
    "read_manifest",
    "read_manifests",
    "split_by_patient",
]
