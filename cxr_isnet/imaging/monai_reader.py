"""An image reader for MONAI's transforms: `LoadImaged(keys="image", reader=CXRReader())`.

A file of its own, because importing MONAI takes seconds that the rest of the package does without.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config.type_definitions import PathLike
from monai.data.image_reader import ImageReader
from numpy.typing import NDArray

from cxr_isnet.imaging.images import read_image


class CXRReader(ImageReader):
    """MONAI reader of chest X-rays: (rows, columns) in [0, 1], never transposed.

    Files are decoded in `get_data`, not in `read`: MONAI's `LoadImage` replaces the errors of `read` by a list of the
    readers that it tried, and `InputError` must reach the user.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """True for any name: the format is recognised by the content."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Path]:
        """The paths to decode.

        Args:
            data: one path or several.
            **kwargs: ignored; part of MONAI's interface.
        """
        names = [data] if isinstance(data, str | bytes | Path) or not isinstance(data, Sequence) else list(data)
        return [Path(str(name)) for name in names]

    def get_data(self, img: Sequence[Path]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Decodes the images.

        Args:
            img: as returned by `read`.

        Returns:
            (rows, columns) float32 in [0, 1] for one file, (files, rows, columns) for several; and MONAI's metadata.

        Raises:
            InputError: as `read_image`.
        """
        arrays = [read_image(path) for path in img]
        array = arrays[0] if len(arrays) == 1 else np.stack(arrays)
        channel = "no_channel" if len(arrays) == 1 else 0
        shape = np.asarray(arrays[0].shape)
        return array, {"spatial_shape": shape, "original_channel_dim": channel, "affine": np.eye(4)}
