"""Predicted masks on disk: a PNG per image, named by the image's content, that carries what was measured on it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from cxr_isnet.files import atomic_write
from cxr_isnet.segmentation.finding import PredictedMask
from cxr_isnet.segmentation.quality import MaskQuality

NAME_DIGITS = 24
_KEY = "cxr-isnet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskStore:
    """The masks that one segmenter predicted, in one folder.

    A file name is the beginning of the SHA-256 of the image's file: it tells nothing of a patient, is the same wherever
    the image lies, and a changed image gets another one. A mask is written whole or not at all, so a run that was
    killed goes on with what is there.

    Attributes:
        folder: Where the PNGs lie.
        model: Digest of the segmenter; masks of another one count as missing.
    """

    folder: Path
    model: str

    def path(self, image_digest: str) -> Path:
        """Where the mask of the image with this SHA-256 is, or would be."""
        return self.folder / f"{image_digest[:NAME_DIGITS]}.png"

    def write(self, image_digest: str, lungs: PredictedMask) -> None:
        """Keeps a mask, 0 and 255, with its quality; the folder exists."""
        about = PngImagePlugin.PngInfo()
        about.add_text(_KEY, json.dumps({"model": self.model, "quality": asdict(lungs.quality)}))
        with atomic_write(self.path(image_digest)) as partial:
            Image.fromarray(lungs.mask * np.uint8(255)).save(partial, pnginfo=about, compress_level=1)

    def quality(self, image_digest: str) -> MaskQuality | None:
        """What was measured on a kept mask; None if there is none of this segmenter."""
        path = self.path(image_digest)
        if not path.is_file():
            return None
        try:
            with Image.open(path) as picture:
                told = json.loads(picture.info.get(_KEY, "{}"))
                if told.get("model") != self.model:
                    return None
                return MaskQuality(**told["quality"])
        except (OSError, SyntaxError, ValueError, TypeError, KeyError) as error:
            _log.warning("%s: damaged (%s); predicted anew", path, error)
            return None
