"""The checks, one file each. A new check is a file here and a line below."""

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.rules import confounding, duplicates, files, labels, low_level_cues, masks, patients, views

CHECKS: tuple[Check, ...] = (
    confounding.CHECK,
    low_level_cues.CHECK,
    duplicates.CHECK,
    files.CHECK,
    labels.CHECK,
    masks.CHECK,
    patients.CHECK,
    views.CHECK,
)
"""All checks, in the order of the report."""
