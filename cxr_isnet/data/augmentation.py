"""Random views of one X-ray: another pose, another exposure, more noise."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.transforms.transform import RandomizableTransform
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cxr_isnet.errors import InputError


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random changes; 0, or a gamma of (1, 1), switches one off.

    Attributes:
        rotate_degrees: largest turn to either side.
        translate: largest shift along each axis, as a share of the image's side.
        scale: largest change of size, as a share: 0.1 is from 0.9 to 1.1.
        flip: mirror left and right in half of the cases; off because hearts are on one side.
        gamma: lowest and highest exponent of the grey values, drawn on a logarithmic scale.
        contrast: largest change of the grey values' spread about 0.5, as a share.
        brightness: largest shift of the grey values.
        noise: standard deviation of the noise that is added.
    """

    rotate_degrees: float = 10.0
    translate: float = 0.05
    scale: float = 0.1
    flip: bool = False
    gamma: tuple[float, float] = (0.8, 1.25)
    contrast: float = 0.1
    brightness: float = 0.05
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rotate_degrees", "translate", "scale", "contrast", "brightness", "noise"):
            if getattr(self, name) < 0:
                raise InputError(f"augmentation {name} is {getattr(self, name)}; give 0 (off) or more")
        if self.scale >= 1:
            raise InputError(f"augmentation scale is {self.scale}; give a share below 1")
        if not 0 < self.gamma[0] <= self.gamma[1]:
            raise InputError(f"augmentation gamma is {self.gamma}; give two positive exponents, the lower one first")


class RandChestXrayd(RandomizableTransform):
    """One affine move of image and mask together, then a change of exposure and noise on the image.

    Own code in place of MONAI's chain of five transforms: the same operations take a tenth of the time,
    which counts when small networks train on a CPU. What the move brings in from outside is 0 in image and
    mask.
    """

    def __init__(self, config: AugmentConfig) -> None:
        """Set up with the ranges of the changes, `config`."""
        super().__init__(prob=1.0)
        self.config = config

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change one item.

        Args:
            data: `image` (1, H, W) float32 in [0, 1], `mask` (1, H, W) float32 of 0 and 1.

        Returns:
            A new item; shapes, types and ranges stay.
        """
        move = self._draw_move()
        gamma, contrast, brightness = self._draw_exposure()
        image, mask = _move(data["image"], data["mask"], move)
        image = ((image.clamp(0.0, 1.0).pow(gamma) - 0.5) * contrast + 0.5 + brightness).clamp_(0.0, 1.0)
        if self.config.noise > 0:
            noise = self.R.standard_normal(image.shape) * self.config.noise
            image = (image + torch.from_numpy(noise).float()).clamp_(0.0, 1.0)
        return {**data, "image": image, "mask": mask}

    def _draw_move(self) -> Tensor:
        """(2, 3) matrix from places in the new image to places in the old one, both in [-1, 1]."""
        config = self.config
        angle = math.radians(self._draw(config.rotate_degrees))
        zoom = 1.0 / (1.0 + self._draw(config.scale))
        shift_x, shift_y = 2 * self._draw(config.translate), 2 * self._draw(config.translate)
        mirror = -1.0 if config.flip and self.R.random_sample() < 0.5 else 1.0
        cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
        return torch.tensor([[mirror * cosine, -mirror * sine, shift_x], [sine, cosine, shift_y]])

    def _draw_exposure(self) -> tuple[float, float, float]:
        low, high = (math.log(bound) for bound in self.config.gamma)
        gamma = math.exp(self.R.uniform(low, high))
        return gamma, 1.0 + self._draw(self.config.contrast), self._draw(self.config.brightness)

    def _draw(self, bound: float) -> float:
        return float(self.R.uniform(-bound, bound))


def _move(image: Tensor, mask: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    grid = affine_grid(move[None], [1, 1, *image.shape[-2:]], align_corners=False)
    moved = grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    lungs = grid_sample(mask[None], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved[0], lungs[0]
