"""Random augmentation of an X-ray: affine transform and field of view, tubes and text, then exposure and noise."""

import math
import string
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms.transform import RandomizableTransform
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cxr_isnet.errors import InputError


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random transforms; 0, or a gamma of (1, 1), switches one off.

    Attributes:
        rotate_degrees: largest rotation to either side, in degrees.
        translate: largest shift along each axis, as a share of the image's side.
        scale: largest change of size, as a share: 0.1 is a factor from 0.9 to 1.1.
        aspect: largest change of the aspect ratio, as a share: hospitals' images are squeezed differently.
        flip: flip left and right with probability 0.5; off because hearts are on one side.
        collimate: widest black border, as a share of the side, at each edge with probability 0.5.
        devices: share of the images that get tubes, leads and text, as bedside images have them.
        gamma: lowest and highest exponent of the grey values, sampled on a logarithmic scale.
        contrast: largest change of the contrast about 0.5, as a share.
        brightness: largest shift of the grey values, which lie in [0, 1].
        noise: standard deviation of the Gaussian noise that is added.

    Raises:
        InputError: a range that is negative or too wide.
    """

    rotate_degrees: float = 10.0
    translate: float = 0.05
    scale: float = 0.1
    aspect: float = 0.0
    flip: bool = False
    collimate: float = 0.0
    devices: float = 0.0
    gamma: tuple[float, float] = (0.8, 1.25)
    contrast: float = 0.1
    brightness: float = 0.05
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rotate_degrees", "translate", "scale", "aspect", "collimate", "contrast", "brightness", "noise"):
            if getattr(self, name) < 0:
                raise InputError(f"augmentation {name} is {getattr(self, name)}; give 0 (off) or more")
        for name in ("scale", "aspect"):
            if getattr(self, name) >= 1:
                raise InputError(f"augmentation {name} is {getattr(self, name)}; give a share below 1")
        if self.collimate >= 0.5:
            raise InputError(f"augmentation collimate is {self.collimate}; give a share of the side below 0.5")
        if not 0 <= self.devices <= 1:
            raise InputError(f"augmentation devices is {self.devices}; give a share of the images, from 0 to 1")
        if not 0 < self.gamma[0] <= self.gamma[1]:
            raise InputError(f"augmentation gamma is {self.gamma}; give two positive exponents, the lower one first")


class _RandXrayd(RandomizableTransform):
    """Random transform of one X-ray within the ranges of an `AugmentConfig`."""

    def __init__(self, config: AugmentConfig) -> None:
        """Set up with the ranges `config`."""
        super().__init__(prob=1.0)
        self.config = config

    def _uniform(self, bound: float) -> float:
        return float(self.R.uniform(-bound, bound))


class RandPoseXrayd(_RandXrayd):
    """Random affine transform of image and mask together, then random collimation of the field of view.

    What the transform brings in from outside, and what lies outside the new field of view, is 0 in image and mask. It
    comes before the equalization of grey values, which depends on how much of the image is black.

    Own code in place of MONAI's `RandAffined` and its kin: the same operations take a tenth of the time, which counts
    when small networks train on a CPU.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one item.

        Args:
            data: `image` (1, H, W) float32 in [0, 1], `mask` (1, H, W) float32 of 0 and 1.

        Returns:
            A new item; shapes, types and ranges stay.
        """
        image, mask = _transform(data["image"], data["mask"], self._random_affine())
        field = self._random_field(image.shape[-2], image.shape[-1])
        return {**data, "image": (image * field).clamp_(0.0, 1.0), "mask": mask * field}

    def _random_affine(self) -> Tensor:
        """Affine matrix (2, 3) from positions in the new image to positions in the old one, both in [-1, 1]."""
        config = self.config
        angle = math.radians(self._uniform(config.rotate_degrees))
        zoom = 1.0 / (1.0 + self._uniform(config.scale))
        stretch = math.sqrt(1.0 + self._uniform(config.aspect))
        shift_x, shift_y = 2 * self._uniform(config.translate), 2 * self._uniform(config.translate)
        mirror = -1.0 if config.flip and self.R.random_sample() < 0.5 else 1.0
        cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
        wide, high = mirror / stretch, stretch
        return torch.tensor([[wide * cosine, -wide * sine, shift_x], [high * sine, high * cosine, shift_y]])

    def _random_field(self, rows: int, columns: int) -> Tensor:
        """Field of view (H, W): 1 inside, 0 in the black border."""
        field = torch.ones(rows, columns)
        widest = self.config.collimate
        top, bottom, left, right = (self.R.uniform(0, widest) * self.R.randint(2) for _ in range(4))
        field[: round(top * rows)] = 0
        field[rows - round(bottom * rows) :] = 0
        field[:, : round(left * columns)] = 0
        field[:, columns - round(right * columns) :] = 0
        return field


class RandDevicesXrayd(_RandXrayd):
    """Random tubes, leads and text, drawn over some of the images; the mask stays: what lies under a tube is lung.

    After the equalization, as their grey values would shift all others.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one item.

        Args:
            data: `image` (1, H, W) float32 in [0, 1].

        Returns:
            A new item; shapes, types and ranges stay.
        """
        if self.R.random_sample() >= self.config.devices:
            return dict(data)
        rows, columns = data["image"].shape[-2:]
        drawn = Image.new("L", (columns, rows))
        draw = ImageDraw.Draw(drawn)
        for _ in range(self.R.randint(1, 5)):
            self._tube(draw, rows, columns)
        for _ in range(self.R.randint(3)):
            self._text(draw, rows, columns)
        cover = torch.from_numpy(np.asarray(drawn, dtype=np.float32) / 255)
        image = data["image"]
        return {**data, "image": image + cover * (1 - image)}

    def _tube(self, draw: ImageDraw.ImageDraw, rows: int, columns: int) -> None:
        """A quadratic Bezier curve between three random points, which may lie outside of the image."""
        points = self.R.uniform(-0.1, 1.1, (3, 2)) * (columns, rows)
        along = np.linspace(0, 1, 24)[:, None]
        curve = (1 - along) ** 2 * points[0] + 2 * along * (1 - along) * points[1] + along**2 * points[2]
        widest = max(2, round(0.016 * min(rows, columns)))
        draw.line([tuple(point) for point in curve], fill=self.R.randint(40, 200), width=self.R.randint(1, widest + 1))

    def _text(self, draw: ImageDraw.ImageDraw, rows: int, columns: int) -> None:
        letters = self.R.choice(list(string.ascii_uppercase + string.digits + "/:. "), self.R.randint(1, 12))
        font = ImageFont.load_default(self.R.uniform(0.03, 0.1) * min(rows, columns))
        place = (self.R.uniform(0, 0.8) * columns, self.R.uniform(0, 0.95) * rows)
        draw.text(place, "".join(letters), fill=self.R.randint(120, 256), font=font)


class RandExposureXrayd(_RandXrayd):
    """Random gamma, contrast, brightness and noise of the image; after the equalization, which would undo them."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one item.

        Args:
            data: `image` (1, H, W) float32 in [0, 1].

        Returns:
            A new item; shapes, types and ranges stay.
        """
        low, high = (math.log(bound) for bound in self.config.gamma)
        gamma = math.exp(self.R.uniform(low, high))
        contrast, brightness = 1.0 + self._uniform(self.config.contrast), self._uniform(self.config.brightness)
        image = ((data["image"].pow(gamma) - 0.5) * contrast + 0.5 + brightness).clamp_(0.0, 1.0)
        if self.config.noise > 0:
            noise = self.R.standard_normal(image.shape) * self.config.noise
            image = (image + torch.from_numpy(noise).float()).clamp_(0.0, 1.0)
        return {**data, "image": image}


def _transform(image: Tensor, mask: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
    grid = affine_grid(affine[None], [1, 1, *image.shape[-2:]], align_corners=False)
    moved = grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    lungs = grid_sample(mask[None], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved[0], lungs[0]
