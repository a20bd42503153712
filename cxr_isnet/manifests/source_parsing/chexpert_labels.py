"""The 14 columns of the CheXpert labeller, in two sets: 1 holds, 0 does not, -1 uncertain, empty not mentioned."""

from collections.abc import Mapping

from cxr_isnet.manifests.source_parsing.labels import Labels
from cxr_isnet.manifests.source_parsing.source import Diagnosis

OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
LABELS = Labels(
    {"No Finding": Diagnosis.NORMAL, "Pneumonia": Diagnosis.OTHER_PNEUMONIA}, ignored=frozenset({"Support Devices"})
)


def observed(row: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Observations that hold, and those that are uncertain."""
    holds = tuple(name for name in OBSERVATIONS if row[name] in ("1", "1.0"))
    return holds, tuple(name for name in OBSERVATIONS if row[name] in ("-1", "-1.0"))
