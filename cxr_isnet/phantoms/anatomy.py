"""Phantom chests: the attenuation of a frontal thorax, composed of smooth shapes, and its lung mask.

Not a simulation of physics: grey values are composed so that bones, soft tissue, air and their edges lie where a
radiologist expects them. Coordinates: x from -1 (left in the image, the patient's right) to 1, y from -1 (head) to 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

SOFTNESS = 0.012
"""Half-width of an organ's edge, in units of half the image's side."""


@dataclass(frozen=True)
class Chest:
    """One phantom.

    Attributes:
        density: (size, size) float32 from 0 (direct exposure) to about 1 (spine over heart).
        lungs: (size, size) bool, True where lung is visible, without heart, mediastinum and the region below the
            diaphragm.
    """

    density: Field
    lungs: NDArray[np.bool_]


@dataclass(frozen=True)
class _Body:
    """The measures of one patient, in units of half the image's side."""

    chest_width: float
    apex: float
    base: float
    heart_width: float
    heart_x: float
    clavicle: float
    rib_spacing: float
    rib_phase: float
    shoulder: float
    fat: float
    arch: float

    @staticmethod
    def sample(generator: np.random.Generator) -> "_Body":
        """A random body, each measure uniform within its range."""
        return _Body(
            chest_width=generator.uniform(0.64, 0.76),
            apex=generator.uniform(-0.80, -0.70),
            base=generator.uniform(0.42, 0.58),
            heart_width=generator.uniform(0.22, 0.29),
            heart_x=generator.uniform(0.07, 0.13),
            clavicle=generator.uniform(-0.66, -0.58),
            rib_spacing=generator.uniform(0.145, 0.175),
            rib_phase=generator.uniform(0.0, 1.0),
            shoulder=generator.uniform(-0.86, -0.76),
            fat=generator.uniform(0.08, 0.16),
            arch=generator.uniform(0.10, 0.14),
        )


def draw_chest(size: int, ill: bool, generator: np.random.Generator) -> Chest:
    """Draws one patient.

    Args:
        size: rows and columns, in pixels.
        ill: whether the lungs have opacities.
        generator: random generator of the anatomy and the disease.

    Returns:
        Density and lung mask.
    """
    body = _Body.sample(generator)
    x, y = _coordinates(size, generator)
    lungs = _lungs(x, y, body)
    cage = _soft_edge(_half_width(y, body) + 0.035 - np.abs(x))
    density = _soft_tissue(x, y, body)
    density -= (0.50 * lungs) * (0.80 + 0.20 * _smooth_noise(size, 24, generator))
    density += lungs * _vessels(x, y, size, generator)
    density += 0.13 * _ribs(x, y, body) * cage
    density += 0.16 * _clavicles(x, y, body)
    density += _midline(x, y, body)
    if ill:
        density += lungs * _opacities(lungs, x, y, generator)
    density += 0.02 * _smooth_noise(size, 12, generator) * (density > 0.1)
    return Chest(np.clip(density, 0.0, 1.2).astype(np.float32), lungs > 0.5)


def _coordinates(size: int, generator: np.random.Generator) -> tuple[Field, Field]:
    """x and y of every pixel for a patient who is slightly rotated, off centre, nearer or farther."""
    angle, zoom = generator.normal(0, 0.02), generator.normal(1.0, 0.03)
    shift_x, shift_y = generator.normal(0, 0.025), generator.normal(0, 0.03)
    steps = np.linspace(-1, 1, size, dtype=np.float32)
    across, down = (steps[None, :] - shift_x) / zoom, (steps[:, None] - shift_y) / zoom
    x = across * np.cos(angle) + down * np.sin(angle)
    y = down * np.cos(angle) - across * np.sin(angle)
    return x.astype(np.float32), y.astype(np.float32)


def _soft_edge(distance: Field, softness: float = SOFTNESS) -> Field:
    """1 inside, 0 outside, with a smooth edge; `distance` is positive inside."""
    ramp = np.clip(distance / (2 * softness) + 0.5, 0.0, 1.0)
    return _field(ramp * ramp * (3.0 - 2.0 * ramp))


def _field(values: NDArray[Any]) -> Field:
    return np.asarray(values, dtype=np.float32)


def _half_width(y: Field, body: _Body) -> Field:
    """Half the inner width of the rib cage: narrow at the apex, widest near the diaphragm."""
    depth = np.clip((y - body.apex) / (0.55 - body.apex), 0.0, 1.0)
    return _field(body.chest_width * (depth ** np.float32(0.33)) * (1.0 - 0.10 * np.clip(depth - 0.8, 0, 1)))


def _diaphragm(x: Field, body: _Body) -> Field:
    """Height of the domes: the patient's right one is higher; deep angles at the sides."""
    middle = np.where(x < 0, -0.36, 0.38).astype(np.float32)
    top = np.where(x < 0, body.base - 0.06, body.base).astype(np.float32)
    return _field(top + 0.95 * (x - middle) ** 2 * np.where(np.abs(x) > np.abs(middle), 2.6, 0.5))


def _heart(x: Field, y: Field, body: _Body) -> Field:
    """Signed distance, positive inside: a leaning oval, more of it on the patient's left."""
    across, down = x - body.heart_x, y - (body.base - 0.16)
    lean_x, lean_y = across * 0.80 - down * 0.60, across * 0.60 + down * 0.80
    return _field(
        body.heart_width * (1.0 - np.sqrt((lean_x / body.heart_width) ** 2 + (lean_y / (1.45 * body.heart_width)) ** 2))
    )


def _mediastinum(x: Field, y: Field, body: _Body) -> Field:
    """Signed distance, positive inside: great vessels with the aortic knob on the patient's left."""
    half = 0.115 + 0.05 * np.clip((-0.45 - y) / 0.35, 0, 1) + 0.06 * np.clip((y + 0.1) / 0.6, 0, 1)
    knob = body.arch - np.sqrt((x - 0.075) ** 2 + (y + 0.33) ** 2)
    return _field(np.maximum(half - np.abs(x - 0.01), knob))


def _lungs(x: Field, y: Field, body: _Body) -> Field:
    walls = _half_width(y, body) - np.abs(x)
    domes = _diaphragm(x, body) - y
    organs = np.maximum(_heart(x, y, body), _mediastinum(x, y, body))
    return _soft_edge(np.minimum(np.minimum(walls, domes), -organs))


def _soft_tissue(x: Field, y: Field, body: _Body) -> Field:
    """Density of neck, shoulders and trunk; thicker towards the abdomen."""
    slope = np.clip((y - body.shoulder) / 0.30, 0.0, 1.0)
    trunk = body.chest_width + body.fat + 0.06
    half = np.where(y < body.shoulder, 0.25, 0.25 + (trunk + 0.10 - 0.25) * np.sqrt(slope))
    half = half + 0.10 * np.clip(1.0 - np.abs(y + 0.35) / 0.35, 0, 1) - 0.08 * np.clip(y, 0, 1)
    edge = half - np.abs(x)
    thickness = np.sqrt(np.clip(edge / 0.55, 0.0, 1.0))
    belly = 0.14 * np.clip((y - body.base) / 0.5, 0.0, 1.0) + 0.04
    return _field(_soft_edge(_field(edge), 0.02) * (0.22 + 0.38 * thickness + belly))


def _ribs(x: Field, y: Field, body: _Body) -> Field:
    """Density of the ribs: posterior ones rise from the spine and fall laterally, fainter anterior ones medially."""
    lateral = np.abs(x)
    posterior = (y - 0.50 * lateral * lateral + 0.18 * lateral) / body.rib_spacing + body.rib_phase
    anterior = (y + 0.75 * lateral * lateral - 0.10 * lateral) / (1.15 * body.rib_spacing) + body.rib_phase
    bones = _band(_field(posterior), 0.42) + 0.40 * _band(_field(anterior), 0.36) * (lateral > 0.22)
    return _field(bones * np.clip((y + 0.86) / 0.06, 0, 1) * np.clip((0.92 - y) / 0.3, 0, 1))


def _band(phase: Field, share: float) -> Field:
    """1 in a share of each unit of `phase`, brighter along the rims as cortical bone is."""
    place = np.abs(phase - np.floor(phase) - 0.5) * 2.0
    body = np.clip((share - place) / 0.10, 0.0, 1.0)
    rim = np.clip(1.0 - np.abs(place - share + 0.10) / 0.12, 0.0, 1.0)
    return _field(0.65 * body + 0.35 * rim)


def _clavicles(x: Field, y: Field, body: _Body) -> Field:
    lateral = np.abs(x)
    course = body.clavicle + 0.05 - 0.20 * np.clip(lateral - 0.08, 0, 1) + 0.05 * np.sin(7.0 * lateral)
    bone = np.clip(1.0 - np.abs(y - course) / 0.038, 0.0, 1.0)
    return _field(np.sqrt(bone) * _soft_edge(np.minimum(lateral - 0.07, 0.66 - lateral), 0.02))


def _midline(x: Field, y: Field, body: _Body) -> Field:
    """Density of heart, mediastinum, spine with its discs, and the dark trachea."""
    heart = (
        0.16 * np.sqrt(np.clip(_heart(x, y, body) / 0.16, 0.0, 1.0)) * _soft_edge(_diaphragm(x, body) + 0.1 - y, 0.06)
    )
    vessels = 0.10 * np.sqrt(np.clip(_mediastinum(x, y, body) / 0.10, 0.0, 1.0))
    column = _soft_edge(_field(0.085 - np.abs(x)), 0.02)
    discs = 0.75 + 0.25 * np.cos(2 * np.pi * y / (0.72 * body.rib_spacing))
    trachea = np.exp(-((x / 0.035) ** 2)) * _soft_edge(-0.32 - y, 0.06)
    return _field(heart + vessels + 0.16 * column * discs - 0.10 * trachea)


def _vessels(x: Field, y: Field, size: int, generator: np.random.Generator) -> Field:
    """Density of the lung vessels: fine bright lines that fade from the hila outwards, and the hila."""
    lines = np.exp(-((_smooth_noise(size, 22, generator) / 0.22) ** 2))
    fine = np.exp(-((_smooth_noise(size, 40, generator) / 0.25) ** 2))
    from_hilum = np.sqrt((np.abs(x) - 0.17) ** 2 + (y + 0.08) ** 2)
    hilum = 0.13 * np.exp(-((from_hilum / 0.12) ** 2))
    return _field(hilum + (0.07 * lines + 0.035 * fine) * np.exp(-from_hilum / 0.38))


def _opacities(lungs: Field, x: Field, y: Field, generator: np.random.Generator) -> Field:
    """Density of the disease: ragged patches and small nodules, most of them in the upper lobes."""
    size = len(lungs)
    weight = np.where(lungs > 0.9, np.exp(-2.2 * (y + 0.7)), 0.0).ravel()
    patches, nodules = int(generator.integers(2, 5)), int(generator.integers(5, 13))
    chosen = generator.choice(weight.size, size=patches + nodules, p=weight / weight.sum())
    centers_x, centers_y = x.ravel()[chosen], y.ravel()[chosen]
    opacity = np.zeros_like(lungs)
    for number, (center_x, center_y) in enumerate(zip(centers_x, centers_y, strict=True)):
        patch = number < patches
        radius = generator.uniform(0.09, 0.17) if patch else generator.uniform(0.022, 0.045)
        strength = generator.uniform(0.24, 0.38) if patch else generator.uniform(0.16, 0.28)
        stretch = generator.uniform(0.7, 1.4)
        reach = ((x - center_x) * stretch) ** 2 + ((y - center_y) / stretch) ** 2
        opacity += strength * np.exp(-reach / (radius * radius))
    return _field(opacity * (0.75 + 0.35 * _smooth_noise(size, 30, generator)))


def _smooth_noise(size: int, cells: int, generator: np.random.Generator) -> Field:
    """Noise of mean 0 and standard deviation about 1 that varies over 1 / `cells` of the image."""
    coarse = generator.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    places = np.linspace(1.0, cells + 1.0, size, dtype=np.float32)
    rows = _spline(places, cells + 3)
    return np.asarray(1.5 * (rows @ coarse @ rows.T), dtype=np.float32)


def _spline(places: Field, count: int) -> Field:
    """(places, count) weights of the cubic B-spline: smooth interpolation as two small matrix products."""
    away = np.abs(places[:, None] - np.arange(count, dtype=np.float32)[None, :])
    near = 2.0 / 3.0 - away**2 + away**3 / 2.0
    far = np.clip(2.0 - away, 0.0, None) ** 3 / 6.0
    return _field(np.where(away < 1.0, near, far).astype(np.float32))


def blur(picture: Field, sigma: float) -> Field:
    """Applies a Gaussian blur, the unsharpness of focal spot and detector.

    Args:
        picture: (rows, columns) float32.
        sigma: standard deviation in pixels.

    Returns:
        (rows, columns) float32.
    """
    from scipy import ndimage  # not at the top: a model in use does without scipy

    return np.asarray(ndimage.gaussian_filter(picture, sigma, truncate=3.0), dtype=np.float32)
