"""How long 2,000 resamples of 100,000 predictions of 5 models take, against scipy's bootstrap around scikit-learn.

    python benchmarks/evaluation.py

The reference is measured at a small size (a call per resample) and extrapolated: its time grows in proportion to the
resamples and the models, and to n log n with the images, as sorting does.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import numpy as np
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from cxr_isnet.evaluation.bootstrap import PatientBootstrap
from cxr_isnet.evaluation.confusion import FloatArray, IntArray
from cxr_isnet.evaluation.metrics import ConfusionRates
from cxr_isnet.evaluation.ranking import RankAUC

CLASSES = ("normal", "tuberculosis")


def made_up(n_images: int, seed: int) -> tuple[IntArray, FloatArray]:
    """Labels and probabilities of the second class; two images per patient."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(generator.random(n_images // 2) < 0.3, 2).astype(np.int64)
    return labels, 1 / (1 + np.exp(-(generator.normal(size=n_images) + labels)))


def ours(n_images: int, resamples: int, models: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor for AUC and all rates of the confusion matrix with BCa intervals."""
    patients = np.arange(n_images) // 2
    tables = [made_up(n_images, seed) for seed in range(models)]
    start = time.perf_counter(), time.process_time()
    for labels, score in tables:
        bootstrap = PatientBootstrap(patients, resamples)
        auc = RankAUC(labels == 1, labels == 0, score)
        rates = ConfusionRates(labels, (score > 0.5).astype(np.int64), CLASSES)
        bootstrap.resample({"auc": auc}, [rates]).intervals()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def reference(n_images: int, resamples: int) -> float:
    """Processor seconds for AUC and balanced accuracy of one model, resampled one by one, percentile intervals."""
    labels, score = made_up(n_images, 0)
    start = time.process_time()
    for metric, said in ((roc_auc_score, score), (balanced_accuracy_score, score > 0.5)):
        stats.bootstrap(
            (labels, said), metric, n_resamples=resamples, paired=True, vectorized=False, method="percentile", rng=0
        )
    return time.process_time() - start


def main() -> None:
    """Measures both sides and prints what they take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--reference-images", type=int, default=20_000)
    parser.add_argument("--reference-resamples", type=int, default=40)
    args = parser.parse_args()
    clock, seconds = ours(args.images, args.resamples, args.models)
    small = reference(args.reference_images, args.reference_resamples)
    growth = args.images * math.log(args.images) / (args.reference_images * math.log(args.reference_images))
    extrapolated = small * growth * args.resamples / args.reference_resamples * args.models
    n_rates = len(ConfusionRates(np.array([0, 1]), np.array([0, 1]), CLASSES).names)
    sys.stdout.write(
        f"cxr-isnet: {args.models} models x {args.images} images x {args.resamples} resamples of patients, BCa, "
        f"AUC and {n_rates} rates: {clock:.1f} s by the clock, {seconds:.1f} s of one core\n"
        f"scipy + scikit-learn: 1 model x {args.reference_images} images x {args.reference_resamples} resamples, "
        f"percentile, AUC and balanced accuracy: {small:.1f} s of one core; extrapolated to the size above "
        f"{extrapolated:.0f} s\nratio of processor time: {extrapolated / seconds:.0f}\n"
    )


if __name__ == "__main__":
    main()
