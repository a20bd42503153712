"""torch.export: a graph of ATen operations that torch runs without this package."""

from __future__ import annotations

from pathlib import Path

import torch

from cxr_isnet.deployment.exporter import Exporter, capture, description
from cxr_isnet.files import atomic_write, write_json
from cxr_isnet.inference import Classifier


def _write(classifier: Classifier, folder: Path) -> tuple[Path, ...]:
    """`model.pt2`, and `model.json` with the description."""
    with atomic_write(folder / "model.pt2") as partial:
        torch.export.save(capture(classifier), partial)
    write_json(folder / "model.json", description(classifier))
    return folder / "model.pt2", folder / "model.json"


EXPORTER = Exporter("pt2", "torch.export program: prepared images to probabilities, at any batch size", _write)
