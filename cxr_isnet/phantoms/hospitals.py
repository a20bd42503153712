"""The imaging chain of a phantom hospital: exposure, noise, collimation, lead marker, grey scale."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.errors import InputError
from cxr_isnet.phantoms import glyphs
from cxr_isnet.phantoms.anatomy import Chest, Field, blur
from cxr_isnet.phantoms.glyphs import Corner

BITS = 12
"""Bits stored per pixel."""


@dataclass(frozen=True)
class PhantomHospital:
    """The imaging characteristics of one hospital.

    Attributes:
        name: the site in the manifest and the institution in the DICOM header.
        gamma: exponent of the grey values; above 1 is darker.
        noise: standard deviation of the noise, as a share of the grey scale.
        unsharpness: standard deviation of the blur, in pixels of a 256-pixel image.
        collimation: mean width of the dark border of collimation, as a share of the image's side.
        marker: letter of the lead marker; "" for none.
        marker_corner: corner of the lead marker.
        monochrome1: whether DICOM files store low values as bright.
    """

    name: str
    gamma: float = 1.0
    noise: float = 0.02
    unsharpness: float = 0.6
    collimation: float = 0.0
    marker: str = "R"
    marker_corner: Corner = Corner.TOP_LEFT
    monochrome1: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("a phantom hospital has an empty name; give it one")
        if self.marker and self.marker not in glyphs.LETTERS:
            raise InputError(f"phantom hospital {self.name}: marker {self.marker!r} is none of {glyphs.LETTERS}")
        if self.gamma <= 0 or self.noise < 0 or not 0 <= self.collimation < 0.2:
            raise InputError(
                f"phantom hospital {self.name}: gamma {self.gamma}, noise {self.noise}, collimation "
                f"{self.collimation}; give gamma above 0, noise from 0, collimation from 0 to below 0.2"
            )


def expose(chest: Chest, hospital: PhantomHospital, generator: np.random.Generator) -> NDArray[np.uint16]:
    """Simulates the acquisition of one image.

    Args:
        chest: the patient.
        hospital: its imaging characteristics.
        generator: random generator of noise, exposure, collimation and the position of the marker.

    Returns:
        (size, size) uint16 from 0 to 4095; bright is dense whatever `monochrome1` is.
    """
    size = len(chest.density)
    density = blur(chest.density, hospital.unsharpness * size / 256)
    picture = np.clip(0.04 + 0.86 * density, 0.0, 1.0) ** np.float32(hospital.gamma * generator.normal(1.0, 0.06))
    grain = generator.standard_normal(picture.shape, dtype=np.float32)
    picture = picture + hospital.noise * grain * np.sqrt(0.3 + picture)
    if hospital.marker:
        _add_marker(picture, hospital, generator)
    _collimate(picture, hospital, generator)
    return np.asarray(np.rint(np.clip(picture, 0.0, 1.0) * (2**BITS - 1)), dtype=np.uint16)


def _add_marker(picture: Field, hospital: PhantomHospital, generator: np.random.Generator) -> None:
    """Adds the letter to its corner at a slightly random position, over the image."""
    size = len(picture)
    side = max(round(0.075 * size), glyphs.GLYPH_SIDE)
    edge = round((hospital.collimation + 0.03) * size)
    top, left = (edge + int(generator.integers(0, max(2, round(0.02 * size)))) for _ in range(2))
    if hospital.marker_corner.value.startswith("bottom"):
        top = size - side - top
    if hospital.marker_corner.value.endswith("right"):
        left = size - side - left
    place = picture[top : top + side, left : left + side]
    np.maximum(place, 0.97 * glyphs.resize(glyphs.letter(hospital.marker), side), out=place)


def _collimate(picture: Field, hospital: PhantomHospital, generator: np.random.Generator) -> None:
    """Darkens a border, each side of random width."""
    if hospital.collimation == 0:
        return
    size = len(picture)
    width = hospital.collimation * size * generator.uniform(0.6, 1.2, size=4)
    top, bottom, left, right = (max(1, round(side)) for side in width)
    for border in (picture[:top], picture[size - bottom :], picture[:, :left], picture[:, size - right :]):
        border *= 0.06


PHANTOM_HOSPITALS: Mapping[str, PhantomHospital] = {
    "hospital_a": PhantomHospital("Phantom hospital A", gamma=0.9, marker="R", marker_corner=Corner.TOP_RIGHT),
    "hospital_b": PhantomHospital("Phantom hospital B", gamma=1.15, noise=0.03, collimation=0.05, marker="L"),
    "hospital_c": PhantomHospital("Phantom hospital C", gamma=1.3, noise=0.035, collimation=0.03, monochrome1=True),
}
"""Folder to phantom hospital: two to train on, and a third, the last, that stays unseen."""
