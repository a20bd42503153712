"""Does a mark in a corner move the answer?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr_isnet.audit.audit_context import AuditContext
from cxr_isnet.audit.probe import Probe
from cxr_isnet.audit.statistics import Picture, ProbeResult, Statistic, chance, held_above
from cxr_isnet.data import MarkConfig, find_position, stamp
from cxr_isnet.evaluation import FloatArray, WeightedMean
from cxr_isnet.phantoms import Corner, glyphs

SIZES = (0.08, 0.14)
GLYPHS = {
    "upright bar": glyphs.mark(0),
    "level bar": glyphs.mark(1),
    "cross": glyphs.mark(2),
    "letter L": glyphs.letter("L"),
    "letter R": glyphs.letter("R"),
}
SHAPE = 0.1
"""Movement from which the shape of a mark counts: models that no mark was of use to reached 0.06."""

PRESENCE = 0.25
"""Movement from which the presence of a bright mark, whatever its shape, counts."""

MOST_IMAGES = 80
"""Images that are marked: each is shown about ninety times."""

Place = tuple[slice, slice]


@dataclass(frozen=True)
class _Site:
    """A corner and a size, with where the mark goes in each image: None where the lungs leave no room."""

    name: str
    places: tuple[Place | None, ...]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        return np.array([place is not None for place in self.places])


def run(context: AuditContext) -> ProbeResult:
    """For every mark, corner and size: the movement it causes, beyond that of two harmless changes of the same area."""
    rows = context.images.spread(MOST_IMAGES, context.seed)
    images, masks = context.images.images[rows], context.images.masks[rows]
    before, bootstrap, rng = context.probabilities[rows], context.bootstrap(rows), context.rng()
    statistics: list[Statistic] = []
    pictures: list[Picture] = []
    for site in _sites(masks):
        patched = torch.stack([_patched(images, row, place) for row, place in enumerate(site.places)])
        by_patch = _movement(context, patched, before, f"patch, {site.name}")
        for name, glyph in GLYPHS.items():
            marked = _drawn(images, site, [glyph] * len(images))
            scattered = _drawn(images, site, [rng.permuted(glyph.ravel()).reshape(glyph.shape) for _ in images])
            moved = _movement(context, marked, before, f"{name}, {site.name}")
            by_scatter = _movement(context, scattered, before, f"{name} scattered, {site.name}")
            for than, harmless, threshold in (("scattered", by_scatter, SHAPE), ("a patch", by_patch, PRESENCE)):
                beyond = np.where(site.known, moved - harmless, np.nan)
                title, count = f"{name} beyond {than}, {site.name}", int(site.known.sum())
                statistics.append(held_above(title, WeightedMean(beyond), bootstrap, count, threshold=threshold))
                tiles = (("as it is", images), (name, marked), ("scattered", scattered), ("a patch", patched))
                pictures.append(_picture(context, tiles, int(np.argmax(site.known))))
    if not statistics:
        return ProbeResult(reason="the lungs leave no room for a mark in any corner")
    ranked = sorted(range(len(statistics)), key=lambda place: -statistics[place].value)
    strongest = tuple(statistics[place] for place in ranked)
    return ProbeResult(strongest, chance(statistics), pictures=(pictures[ranked[0]],))


def _sites(masks: Tensor) -> Iterator[_Site]:
    for corner in Corner:
        for size in SIZES:
            places = tuple(_place(mask, corner, size) for mask in masks)
            if any(place is not None for place in places):
                yield _Site(f"{corner.value.replace('_', ' ')}, {size:.0%} of the side", places)


def _drawn(images: Tensor, site: _Site, marks: Sequence[npt.NDArray[np.float32]]) -> Tensor:
    """The images with a mark each, at full brightness."""
    return torch.stack(
        [
            image if place is None else stamp(image, mark, place, 1.0)
            for image, place, mark in zip(images, site.places, marks, strict=True)
        ]
    )


def _place(mask: Tensor, corner: Corner, size: float) -> Place | None:
    """Where the mark goes; None where the lungs leave no room in this corner."""
    lungs = mask[0].numpy() > 0
    place = find_position(lungs.shape, lungs, MarkConfig(size=size, corner=corner))
    if place is None:
        return None
    rows, columns = lungs.shape
    top, left = 2 * place[0].start < rows - 1, 2 * place[1].start < columns - 1
    wanted = (corner.value.startswith("top"), corner.value.endswith("left"))
    return place if (top, left) == wanted else None


def _patched(images: Tensor, row: int, place: Place | None) -> Tensor:
    """The image with the next image's pixels at the mark's place: a change of the same area that carries no sign."""
    patched = images[row].clone()
    if place is not None:
        patched[:, place[0], place[1]] = images[(row + 1) % len(images), :, place[0], place[1]]
    return patched


def _movement(context: AuditContext, images: Tensor, before: FloatArray, what: str) -> FloatArray:
    """Probability (N,) that moved from some classes to others."""
    moved = np.abs(context.ask(context.model.probabilities, images, what) - before)
    return np.asarray(moved.sum(1) / 2, dtype=np.float64)


def _picture(context: AuditContext, tiles: Sequence[tuple[str, Tensor]], row: int) -> Picture:
    return Picture(
        "The mark that moved the answer most, and the harmless changes it is compared with",
        tuple((heading, context.tile(shown, row)) for heading, shown in tiles),
    )


PROBE = Probe(
    name="planted_marks",
    title="Marks planted into the background",
    question="Which bright marks in the corners move the answer, and by how much?",
    rule=(
        f"A sign, if any mark moves the probabilities by more than {SHAPE} beyond what its own pixels do when "
        "they are scattered over the same square, so that the shape is read; or by more than "
        f"{PRESENCE} beyond what the same square of another patient's image does, so that its presence is. The "
        "movement is half the sum of the absolute changes over the classes."
    ),
    limits=(
        f"Five marks, four corners, sizes {', '.join(f'{size:.0%}' for size in SIZES)} of the side, full brightness, "
        f"on up to {MOST_IMAGES} images. A mark that none of them resembles is not found. Any bright object upsets a "
        "model a little that no mark was ever of use to: hence the wider margin for presence."
    ),
    needs=(),
    run=run,
)
