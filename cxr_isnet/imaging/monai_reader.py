"""The reader as MONAI knows readers: `LoadImaged(keys="image", reader=CXRReader())`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config.type_definitions import PathLike
from monai.data.image_reader import ImageReader
from numpy.typing import NDArray

from cxr_isnet.imaging.images import read_image


class CXRReader(ImageReader):
    """MONAI reader of chest X-rays: rows x columns, never transposed, in [0, 1].

    Files are decoded in `get_data`, not in `read`: MONAI's `LoadImage` hides the errors of `read` behind a
    list of readers it tried, and `InputError` must be seen.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Any name will do: the format is known by the content."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Path]:
        """The paths to decode.

        Args:
            data: one path or several.
            **kwargs: none is known; MONAI's interface asks for them.
        """
        names = [data] if isinstance(data, str | bytes | Path) or not isinstance(data, Sequence) else list(data)
        return [Path(str(name)) for name in names]

    def get_data(self, img: Sequence[Path]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Decode.

        Args:
            img: what `read` returned.

        Returns:
            (rows, columns) for one file, (files, rows, columns) for several, and the metadata that MONAI
            asks for.

        Raises:
            InputError: as `read_image`.
        """
        arrays = [read_image(path) for path in img]
        array = arrays[0] if len(arrays) == 1 else np.stack(arrays)
        channel = "no_channel" if len(arrays) == 1 else 0
        shape = np.asarray(arrays[0].shape)
        return array, {"spatial_shape": shape, "original_channel_dim": channel, "affine": np.eye(4)}
