"""Implausible lung masks: of another size, empty, cut off, too large, too small, or not two lungs."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Finding, Picture, Severity
from cxr_isnet.checks.records import MaskRecord
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.imaging import LARGEST_AREA, LARGEST_BORDER, LOWEST_SYMMETRY, SMALLEST_AREA


def find(scan: ManifestScan) -> Iterator[Finding]:
    """Find faults of masks, and images without a mask."""
    frame = scan.frame
    given = frame.loc[frame["mask"] != "", ["image", "mask"]].drop_duplicates()
    for image, path in given.itertuples(index=False, name=None):
        rows = scan.rows(image)
        places = tuple(rows.index[rows["mask"] == path])
        mask, shape = scan.masks[path], scan.images[image].shape if image else (0, 0)
        for severity, value, text in _faults(mask, shape):
            message = f"{path}: {text}"
            shown = (Picture(image, mask=path),) if image else ()
            yield Finding("masks", severity, message, places, "mask", value, shown)
    without = frame.index[frame["mask"] == ""]
    if len(without):
        message = (
            f"{len(without)} of {len(frame)} images have no mask: they train the classification loss only. "
            "Annotate or predict masks to have their background penalised"
        )
        yield Finding("masks", Severity.INFO, message, tuple(without), "mask")


def _faults(mask: MaskRecord, image: tuple[int, int]) -> Iterator[tuple[Severity, str, str]]:
    """Severity, value and text of everything that is wrong with a mask."""
    if mask.thumbnail is None:
        if not mask.problem.endswith("there is no such file"):
            yield Severity.ERROR, "", f"the mask cannot be read: {mask.problem}"
        return
    if image != (0, 0) and mask.shape != image:
        value = f"{mask.shape[0]} x {mask.shape[1]}"
        text = f"{value} pixels, its image {image[0]} x {image[1]} (rows x columns). Give a mask drawn on this image"
        yield Severity.ERROR, value, text
    if mask.area == 0:
        yield Severity.ERROR, "0", "no pixel is lung. Draw it anew, or leave the cell empty"
        return
    if not SMALLEST_AREA <= mask.area <= LARGEST_AREA:
        usual = f"usual is {100 * SMALLEST_AREA:.0f}% to {100 * LARGEST_AREA:.0f}%"
        yield Severity.WARNING, f"{mask.area:.3f}", f"suspect: lungs fill {100 * mask.area:.1f}% of the image, {usual}"
    if mask.border > LARGEST_BORDER:
        sides, share = ", ".join(mask.borders), f"{100 * mask.border:.0f}%"
        text = f"suspect: {share} of the image's border ({sides}) is lung: lungs cut off, or not lungs"
        yield Severity.WARNING, sides, text
    if len(mask.parts) != 2:
        count = len(mask.parts)
        yield Severity.WARNING, str(count), f"suspect: {count} separate parts where two lungs are expected"
    elif mask.parts[1] < LOWEST_SYMMETRY * mask.parts[0]:
        ratio = mask.parts[1] / mask.parts[0]
        yield Severity.WARNING, f"{ratio:.2f}", f"suspect: one lung has {100 * ratio:.0f}% of the other's area"


CHECK = Check("masks", "masks have their image's size and look like two lungs", find)
