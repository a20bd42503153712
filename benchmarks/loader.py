"""Images a second that can be loaded, decoded, kept and augmented, beside MONAI's transforms, in one run.

    python benchmarks/loader.py --size 224 --images 60 --rounds 5 --threads 1

CPU seconds of the process; the ways take turns, so that what else the machine does falls on all alike. The images are
phantoms with lung masks, written as PNG. The reference is MONAI's LoadImage, Resize and HistogramNormalize, and with
RandAffine, RandAdjustContrast and RandScaleIntensity on images that its CacheDataset keeps; "equalized by numpy" is
`numpy.interp` over the edges of the histogram, as this project had it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import monai.transforms as mt
import numpy as np
import torch
from monai.data.dataset import CacheDataset
from monai.data.image_reader import PILReader
from PIL import Image

from cxr_isnet.data import AugmentConfig, FolderStore, ImageConfig, MemoryStore, check_files, equalize, make_dataset
from cxr_isnet.data.image_store import ImageStore
from cxr_isnet.data.preparation import BLACK, HISTOGRAM_BINS
from cxr_isnet.imaging import read_image
from cxr_isnet.manifests import read_manifest
from cxr_isnet.phantoms import PhantomHospital, write_hospital

REFERENCE = {"decoded": "MONAI, decoded", "kept, augmented": "MONAI, cached, augmented"}
KEYS = ("image", "mask")


def ways(folder: Path, images: int, side: int, size: int) -> dict[str, Callable[[], object]]:
    """What is measured, each a function that goes through all images once."""
    manifest = write_hospital(folder / "hospital", PhantomHospital("Alder"), patients=images, seed=0, size=side)
    frame, classes, config = read_manifest(manifest), ["normal", "tuberculosis"], ImageConfig(size)
    frame["image"] = [as_png(image, folder / f"{number}.png") for number, image in enumerate(frame["image"])]
    stores: dict[str, ImageStore] = {"memory": MemoryStore(config), "folder": FolderStore(config, folder / "kept")}
    for store in stores.values():
        check_files(frame, store.pair)

    def through(store: ImageStore | None, augment: AugmentConfig | None = None) -> Callable[[], object]:
        dataset = make_dataset(frame, classes, config, augment=augment, store=store)
        return lambda: [dataset[place, place] for place in range(len(dataset))]

    prepared = [stores["memory"].pair(row.image, row.mask).image for row in frame.itertuples()]
    items = frame[list(KEYS)].to_dict("records")
    read = mt.Compose(
        [
            mt.LoadImaged(KEYS, ensure_channel_first=True, reader=PILReader(reverse_indexing=False)),
            mt.Resized(KEYS, (size, size), mode=("bilinear", "nearest"), anti_aliasing=(True, False)),
            mt.ScaleIntensityd(KEYS),
        ]
    )
    equalization = mt.HistogramNormalized(["image"], num_bins=HISTOGRAM_BINS, min=0, max=1)
    decode = mt.Compose([read, equalization])
    augment = mt.Compose(
        [
            mt.RandAffined(
                KEYS,
                prob=1,
                rotate_range=0.17,
                translate_range=0.05 * size,
                scale_range=0.1,
                mode=("bilinear", "nearest"),
            ),
            equalization,
            mt.RandAdjustContrastd(["image"], prob=1, gamma=(0.8, 1.25)),
            mt.RandScaleIntensityd(["image"], prob=1, factors=0.1),
        ]
    )
    cached = CacheDataset(items, read, num_workers=1, progress=False, copy_cache=False)
    return {
        "decoded": through(None),
        "kept in memory": through(stores["memory"]),
        "kept in a folder": through(stores["folder"]),
        "kept, augmented": through(stores["memory"], AugmentConfig()),
        "equalized": lambda: [equalize(image) for image in prepared],
        "equalized by numpy": lambda: [by_numpy(image) for image in prepared],
        "MONAI, decoded": lambda: [decode(item) for item in items],
        "MONAI, cached, augmented": lambda: [augment(cached[place]) for place in range(len(cached))],
    }


def as_png(image: str, path: Path) -> str:
    """An image as PNG of 8 bits, which both sides read."""
    Image.fromarray(np.rint(read_image(image) * 255).astype(np.uint8)).save(path)
    return str(path)


def by_numpy(image: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Histogram equalization over the edges of the bins."""
    grey = image.numpy()
    seen = grey > BLACK
    counts, edges = np.histogram(grey[seen], bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    shares = np.concatenate(([0.0], np.cumsum(counts) / max(1, np.count_nonzero(seen))))
    return np.where(seen, np.interp(grey, edges, shares), 0.0)


def measure(images: int, side: int, size: int, rounds: int) -> dict[str, dict[str, float]]:
    """By way: images a second, median of the rounds; and the ratio to MONAI's where it has the like."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        measured = ways(Path(folder), images, side, size)
        for turn in range(1 + rounds):  # the first warms up
            for name, way in measured.items():
                start = time.process_time()
                way()
                if turn:
                    seconds.setdefault(name, []).append(time.process_time() - start)
    rows = {name: {"images_per_s": images / statistics.median(found)} for name, found in seconds.items()}
    for name, reference in REFERENCE.items():
        rows[name]["ratio"] = statistics.median(b / a for a, b in zip(seconds[name], seconds[reference], strict=True))
    rows["equalized"]["ratio"] = rows["equalized"]["images_per_s"] / rows["equalized by numpy"]["images_per_s"]
    return rows


def main() -> None:
    """Measures, prints a row per way and writes the JSON file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="rows and columns of the network's input")
    parser.add_argument("--side", type=int, default=1024, help="rows and columns of the files")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = measure(args.images, args.side, args.size, args.rounds)
    print(f"{'':<26} {'images/s':>9}   times as many as its reference")
    for name, row in rows.items():
        print(f"{name:<26} {row['images_per_s']:>9.0f}   {row.get('ratio', float('nan')):.2f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
