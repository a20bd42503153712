"""Does a mark in a corner change the prediction?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr_isnet.audit.probe import AuditContext, Probe
from cxr_isnet.audit.statistics import Panel, ProbeResult, Statistic, bonferroni, one_sided_test
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
"""Change from which the shape of a mark counts: models trained without marks reached 0.06."""

PRESENCE = 0.25
"""Change from which the presence of a bright mark, whatever its shape, counts."""

MAX_IMAGES = 80
"""Images that are marked: each is predicted about ninety times."""

Position = tuple[slice, slice]


@dataclass(frozen=True)
class _Placement:
    """A corner and a size, with the position of the mark in each image: None where the lungs leave no room."""

    name: str
    positions: tuple[Position | None, ...]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        return np.array([position is not None for position in self.positions])


def run(context: AuditContext) -> ProbeResult:
    """For every mark, corner and size: the change it causes, beyond that of two control changes of the same area."""
    rows = context.data.stratified_rows(MAX_IMAGES, context.seed)
    images, masks = context.data.images[rows], context.data.masks[rows]
    before, bootstrap, rng = context.probabilities[rows], context.bootstrap(rows), context.rng()
    statistics: list[Statistic] = []
    panels: list[Panel] = []
    for placement in _placements(masks):
        patched = torch.stack([_patched(images, row, position) for row, position in enumerate(placement.positions)])
        by_patch = _change(context, patched, before, f"patch, {placement.name}")
        for name, glyph in GLYPHS.items():
            marked = _marked(images, placement, [glyph] * len(images))
            scattered = _marked(images, placement, [rng.permuted(glyph.ravel()).reshape(glyph.shape) for _ in images])
            changed = _change(context, marked, before, f"{name}, {placement.name}")
            by_scatter = _change(context, scattered, before, f"{name} scattered, {placement.name}")
            for than, control, threshold in (("scattered", by_scatter, SHAPE), ("a patch", by_patch, PRESENCE)):
                beyond = np.where(placement.known, changed - control, np.nan)
                title, count = f"{name} beyond {than}, {placement.name}", int(placement.known.sum())
                statistics.append(one_sided_test(title, WeightedMean(beyond), bootstrap, count, threshold=threshold))
                tiles = (("as it is", images), (name, marked), ("scattered", scattered), ("a patch", patched))
                panels.append(_panel(context, tiles, int(np.argmax(placement.known))))
    if not statistics:
        return ProbeResult(reason="the lungs leave no room for a mark in any corner")
    ranked = sorted(range(len(statistics)), key=lambda index: -statistics[index].value)
    largest_first = tuple(statistics[index] for index in ranked)
    return ProbeResult(largest_first, bonferroni(statistics), panels=(panels[ranked[0]],))


def _placements(masks: Tensor) -> Iterator[_Placement]:
    for corner in Corner:
        for size in SIZES:
            positions = tuple(_position(mask, corner, size) for mask in masks)
            if any(position is not None for position in positions):
                yield _Placement(f"{corner.value.replace('_', ' ')}, {size:.0%} of the side", positions)


def _marked(images: Tensor, placement: _Placement, marks: Sequence[npt.NDArray[np.float32]]) -> Tensor:
    """Images with a mark each, at full brightness."""
    return torch.stack(
        [
            image if position is None else stamp(image, mark, position, 1.0)
            for image, position, mark in zip(images, placement.positions, marks, strict=True)
        ]
    )


def _position(mask: Tensor, corner: Corner, size: float) -> Position | None:
    """Position of the mark; None where the lungs leave no room in this corner."""
    lungs = mask[0].numpy() > 0
    position = find_position(lungs.shape, lungs, MarkConfig(size=size, corner=corner))
    if position is None:
        return None
    rows, columns = lungs.shape
    top, left = 2 * position[0].start < rows - 1, 2 * position[1].start < columns - 1
    wanted = (corner.value.startswith("top"), corner.value.endswith("left"))
    return position if (top, left) == wanted else None


def _patched(images: Tensor, row: int, position: Position | None) -> Tensor:
    """Image with the next image's pixels at the mark's position: a change of the same area that carries no sign."""
    patched = images[row].clone()
    if position is not None:
        patched[:, position[0], position[1]] = images[(row + 1) % len(images), :, position[0], position[1]]
    return patched


def _change(context: AuditContext, images: Tensor, before: FloatArray, description: str) -> FloatArray:
    """Total variation distance (N,) between the probabilities of changed images and those before."""
    changes = np.abs(context.in_batches(context.model.probabilities, images, description) - before)
    return np.asarray(changes.sum(1) / 2, dtype=np.float64)


def _panel(context: AuditContext, tiles: Sequence[tuple[str, Tensor]], row: int) -> Panel:
    return Panel(
        "The mark that changed the prediction most, and the control changes it is compared with",
        tuple((heading, context.tile(shown, row)) for heading, shown in tiles),
    )


PROBE = Probe(
    name="planted_marks",
    title="Marks planted into the background",
    question="Which bright marks in the corners change the prediction, and by how much?",
    rule=(
        f"A sign, if any mark changes the probabilities by more than {SHAPE} beyond what its own pixels do when "
        "they are scattered over the same square, so that the shape is read; or by more than "
        f"{PRESENCE} beyond what the same square of another patient's image does, so that its presence is. The "
        "change is half the sum of the absolute changes over the classes (total variation distance)."
    ),
    limits=(
        f"Five marks, four corners, sizes {', '.join(f'{size:.0%}' for size in SIZES)} of the side, full brightness, "
        f"on up to {MAX_IMAGES} images. A mark that none of them resembles is not found. Any bright object "
        "disturbs even a model trained without marks a little: hence the wider margin for presence."
    ),
    needs=(),
    run=run,
)
