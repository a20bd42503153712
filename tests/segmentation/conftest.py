"""Segmenters without training: one that takes what is bright for lung, and X-rays on which it is right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from cxr_isnet.data import ImageConfig
from cxr_isnet.engine.devices import Device
from cxr_isnet.networks.lung_unet import SegmenterConfig
from cxr_isnet.segmentation import Segmenter
from cxr_isnet.segmentation.training import SegmentTrainConfig
from cxr_isnet.tracking import TrackingConfig

MODEL = "0123456789abcdef" * 4


class BrightIsLung(nn.Module):
    """Logits (B, 1, H, W) that are positive where the image is brighter than its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (images - 0.5) * self.scale


def two_lungs(rows: int = 96, columns: int = 80, *, top: float = 0.2) -> np.ndarray:
    """(rows, columns) uint8 of 0 and 1: two rectangles."""
    mask = np.zeros((rows, columns), np.uint8)
    for left, right in ((0.15, 0.4), (0.6, 0.85)):
        mask[round(top * rows) : round(0.8 * rows), round(left * columns) : round(right * columns)] = 1
    return mask


@pytest.fixture
def bright() -> Segmenter:
    """The segmenter of bright lungs, as if read from a file."""
    return Segmenter(BrightIsLung().eval(), SegmenterConfig(), ImageConfig(64, equalize=False), MODEL)


@pytest.fixture
def write_xrays(tmp_path: Path) -> Callable[..., Path]:
    """Writes pictures (rows, columns), 1 bright, and a manifest of them; `masks` are given masks or None."""

    def write(
        pictures: list[np.ndarray], masks: list[np.ndarray | None] | None = None, folder: str = "xrays", **columns: Any
    ) -> Path:
        root = tmp_path / folder
        root.mkdir()
        rows = []
        for number, picture in enumerate(pictures):
            Image.fromarray(picture.astype(np.uint8) * 255).save(root / f"x{number}.png")
            given = masks[number] if masks else None
            if given is not None:
                Image.fromarray(given * np.uint8(255)).save(root / f"m{number}.png")
            rows.append(
                {
                    "image": f"x{number}.png",
                    "mask": "" if given is None else f"m{number}.png",
                    "label": "normal",
                    "patient_id": f"DOE-{number // 2}",
                    "site": "Alder",
                }
            )
        pd.DataFrame(rows).assign(**columns).to_csv(root / "manifest.csv", index=False)
        return root / "manifest.csv"

    return write


@pytest.fixture
def make_config(phantom_manifest: Path, tmp_path: Path) -> Callable[..., SegmentTrainConfig]:
    """A maker of trainings that take a second: twelve phantoms, 32 pixels, two levels, two epochs."""

    def make(output: str = "run", **changes: Any) -> SegmentTrainConfig:
        settings: dict[str, Any] = {
            "training": [str(phantom_manifest)],
            "image": ImageConfig(32),
            "network": SegmenterConfig((4, 8), dropout=0.1),
            "epochs": 2,
            "batch_size": 4,
            "validation_fraction": 0.34,
            "device": Device.CPU,
            "resamples": 20,
            "tracking": TrackingConfig(enabled=False),
        }
        return SegmentTrainConfig(output=str(tmp_path / output), **{**settings, **changes})

    return make
