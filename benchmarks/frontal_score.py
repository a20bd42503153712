"""Fits the coefficients of `cxr_isnet.imaging.frontal_score`, and counts what it flags at other hospitals.

    python benchmarks/frontal_score.py --fit data/nih_chestxray14/manifest.csv --test data/*/manifest.csv

Fitted to upright frontal X-rays against the same ones turned by right angles, each as it is and twice moved, scaled,
turned a little and framed in black or white. Coefficients come out as the module has them; images are not needed again.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import FRONTAL_ABOVE, downsample, frontal_features, frontal_score, read_image
from cxr_isnet.manifests import read_manifest

_SIDE, _MOST = 64, 2000
_DRAWS, _DEGREES, _SCALES, _FRAME = 2, 8.0, (0.75, 1.12), 14


def thumbnails(table: str) -> NDArray[np.float32]:
    """The images of a manifest (N, 64, 64), at most 2,000; without those that cannot be read."""
    found = []
    for path in read_manifest(table)["image"].head(_MOST):
        try:
            found.append(downsample(read_image(path)).astype(np.float32))
        except InputError as error:
            print(error)
    return np.stack(found)


def moved(image: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """The image turned a little, cropped or reduced, and at times framed."""
    dark = float(image.min())
    picture = Image.fromarray(image).rotate(
        generator.uniform(-_DEGREES, _DEGREES), Image.Resampling.BILINEAR, fillcolor=dark
    )
    across, down = generator.uniform(*_SCALES, 2)
    left, top = (generator.uniform(min(0.0, _SIDE - _SIDE * s), max(0.0, _SIDE - _SIDE * s)) for s in (across, down))
    placed = (across, 0, left, 0, down, top)
    out = np.array(
        picture.transform((_SIDE, _SIDE), Image.Transform.AFFINE, placed, Image.Resampling.BILINEAR, fillcolor=dark)
    )
    if generator.random() < 0.5:
        above, below, before, behind = generator.integers(0, _FRAME, 4)
        grey = dark if generator.random() < 0.7 else float(image.max())
        out[:above] = out[_SIDE - below :] = out[:, :before] = out[:, _SIDE - behind :] = grey
    return out


def fit(images: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Coefficients and intercept."""
    generator = np.random.default_rng(0)
    upright = np.concatenate(
        [images, *(np.stack([moved(image, generator) for image in images]) for _ in range(_DRAWS))]
    )
    turned = np.concatenate([np.rot90(upright, times, (1, 2)) for times in (1, 2, 3)])
    features = np.stack([frontal_features(image) for image in (*upright, *turned)])
    truth = np.repeat([1, 0], [len(upright), len(turned)])
    model = LogisticRegression(C=0.05, max_iter=500, class_weight="balanced").fit(features, truth)
    return model.coef_[0], float(model.intercept_[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", help="manifest to fit to; without one, what is shipped is tested")
    parser.add_argument("--test", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.fit:
        coefficients, intercept = fit(thumbnails(arguments.fit))
        for row in coefficients.reshape(8, 4):
            print("    " + " ".join(f"{value:6.3f}" for value in row))
        print(f"intercept {intercept:.3f}")
    for table in arguments.test:
        images = thumbnails(table)
        shares = [
            np.mean([frontal_score(np.rot90(image, times)) < FRONTAL_ABOVE for image in images]) for times in range(4)
        ]
        print(f"{table}: {len(images)} images; flagged upright {shares[0]:.3f}, turned by 90, 180, 270 degrees "
              + ", ".join(f"{share:.3f}" for share in shares[1:]))  # fmt: skip


if __name__ == "__main__":
    main()
